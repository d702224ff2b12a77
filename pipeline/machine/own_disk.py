"""A worker's temporary folder, as the machine that asked speaks of it."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from rexnet_export.pipeline.core.errors import unwritable


@contextmanager
def own_disk() -> Iterator[None]:
    """`UsageError` with the cure for an `OSError`: what cannot be written is this machine's temporary folder."""
    try:
        yield
    except OSError as error:
        raise unwritable(
            error, f"{temporary_folder()} cannot be written ({error.strerror}); make room there, or set its TMPDIR"
        ) from error


def temporary_folder() -> str:
    """The temporary folder of this machine, with the machine."""
    return f"{tempfile.gettempdir()} on the worker {socket.gethostname()}"
