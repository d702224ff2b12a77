"""One folder for all that a command and its toolchains write on the way; what dead commands left is swept."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from rexnet_export.pipeline.core.errors import UsageError
from rexnet_export.pipeline.machine.locks import is_owned, owned

NEW, NAME = ".rexnet-new-", "rexnet-run-"
LOGS = "*.log"
KEPT = "kept"  # marks the folder of a command that failed and refers to its logs
KEPT_S, NEW_S = 7 * 24 * 3600, 3600


@contextmanager
def work_folder() -> Iterator[Path]:
    """A private folder that is the process's folder for temporary files while the context is open.

    Logs that are not empty outlive a command that fails. A process's own folder is never a fixed name.
    """
    with ExitStack() as owner:
        try:
            parent = Path(tempfile.gettempdir())
            _sweep(parent)
            new = Path(tempfile.mkdtemp(prefix=NEW, dir=parent))
            owner.enter_context(owned(new))
            folder = new.with_name(NAME + new.name.removeprefix(NEW))
            new.rename(folder)  # nobody finds it by this name before it is held
        except OSError as error:
            raise UsageError(
                f"no folder for temporary files ({error.strerror}): set TMPDIR to one that can be written to"
            ) from error
        try:
            with _temporary(folder):
                yield folder
        finally:
            with suppress(OSError):  # somebody else deletes it too
                _delete(folder)


@contextmanager
def _temporary(folder: Path) -> Iterator[None]:
    """Python and whatever it starts write temporary files to the folder."""
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    variable, os.environ["TMPDIR"] = os.environ.get("TMPDIR"), str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before
        if variable is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = variable


def _delete(folder: Path) -> None:
    """Delete the folder but for logs that say something, and the folder where there are none."""
    for path in folder.iterdir():
        if not (path.is_file() and path.match(LOGS) and path.stat().st_size):
            _remove(path)
    if any(folder.iterdir()):
        (folder / KEPT).touch()
    else:
        folder.rmdir()


def _sweep(parent: Path) -> None:
    """Delete folders of this user whose command is dead, at once; logs that were kept, after a week."""
    now = time.time()
    for folder in (*parent.glob(f"{NAME}*"), *parent.glob(f"{NEW}*")):
        with suppress(OSError):
            status = folder.lstat()
            age = now - status.st_mtime
            young = age < (KEPT_S if (folder / KEPT).exists() else NEW_S if folder.name.startswith(NEW) else 0)
            if status.st_uid == os.geteuid() and not young and not is_owned(folder):
                _remove(folder)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
