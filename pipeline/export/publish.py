"""An output folder that is filled whole or not at all: written in private, moved into place when all is done."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rexnet_export.pipeline.core.errors import UsageError
from rexnet_export.pipeline.core.files import MANIFEST_FILE


@contextmanager
def staging(output: Path) -> Iterator[Path]:
    """A private folder beside the files' destination, gone afterwards whatever happens."""
    try:
        existed = output.is_dir()
        output.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=output))
    except OSError as error:
        raise UsageError(f"--output {output}: {error.strerror}; choose a folder you can write to") from error
    try:
        yield folder
    except Exception as error:
        if not _disk_is_full(error):
            raise
        raise UsageError(f"--output {output}: the disk is full; free some space and run again") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if not existed and not any(output.iterdir()):
            output.rmdir()


def _disk_is_full(error: BaseException | None) -> bool:
    """Whether that is what an error comes from; toolchains wrap it in their own exceptions, or only quote it."""
    if error is None:
        return False
    found = isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}
    return found or os.strerror(errno.ENOSPC) in str(error) or _disk_is_full(error.__cause__ or error.__context__)


def move(folder: Path, output: Path) -> None:
    """Replace older files of the same names; the manifest vouches for the others, so it goes first and comes last."""
    (output / MANIFEST_FILE).unlink(missing_ok=True)
    for path in sorted(folder.iterdir(), key=lambda path: path.name == MANIFEST_FILE):
        destination = output / path.name
        if destination.is_dir():
            shutil.rmtree(destination)
        elif path.is_dir():
            destination.unlink(missing_ok=True)
        path.replace(destination)
