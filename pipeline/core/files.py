"""Files that appear whole or not at all, and the names of those in an output folder."""

from __future__ import annotations

import errno
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rexnet_export.pipeline.core.errors import CheckpointError, UsageError, unwritable

MANIFEST_FILE, QPARAMS_FILE, REPORT_FILE = "manifest.json", "qparams.json", "report.json"
SBOM_FILE, PROVENANCE_FILE, SIGNATURE_FILE = "sbom.cdx.json", "provenance.intoto.json", "provenance.dsse.json"
VOUCHING = (MANIFEST_FILE, PROVENANCE_FILE, SIGNATURE_FILE)  # what speaks of all files, and so of no own digest
BACKBONE_FILE = "backbone.json"  # the report of `rexnet-export backbone`
TRAINING_STATE = "state.pt"  # what `rexnet-train` goes on from, beside the weights that it ends with
PLAIN_GRAPH = "-float-nchw.onnx"  # how the name of the float graph without its image front ends
NPU_FILE = "npu.json"  # the record of `rexnet-export npu`


def compiled_folder(name: str) -> str:
    """The folder beside a `.tflite` of that name for what it is compiled to ahead of time."""
    return f"{Path(name).stem}-npu"


def require_no_export(output: Path) -> None:
    """`UsageError` where a folder holds an export, which anything else that is published there would replace."""
    if (output / MANIFEST_FILE).exists():
        raise UsageError(f"--output {output} holds an export, which would be replaced; name another")


def take_mode(folder: Path, output: Path) -> None:
    """Open a private folder to whom the one is open to whose place it takes; `OSError` where it cannot be.

    A temporary folder is its owner's alone (0o700). The folder in its place has the mode that the umask gave it, or
    the one that somebody chose for it since; a new run is no reason to change either.
    """
    folder.chmod(stat.S_IMODE(output.stat().st_mode))


@contextmanager
def writing(output: Path) -> Iterator[None]:
    """The context does nothing but write into an output folder: what goes wrong there is the folder's fault."""
    try:
        yield
    except (OSError, CheckpointError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        if not isinstance(cause, OSError):
            raise
        reason = cause.strerror or str(cause)
        raise unwritable(cause, f"{output} cannot be written ({reason}); make room or name another --output") from error


@contextmanager
def writing_file(named: str) -> Iterator[None]:
    """The same of a single file that the user named, as messages shall call it."""
    try:
        yield
    except OSError as error:
        raise UsageError(f"{named} cannot be written ({error.strerror}): make room or name another file") from error


def try_file(path: Path) -> None:
    """Whether a file can appear there, before minutes of work depend on it; OSError says why not.

    It is written beside its place and renamed, so the folder decides; what is no file must not be replaced by that,
    be it a folder or a device such as `/dev/stdout`.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EEXIST, "what is there is no file")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path.parent):
        pass
