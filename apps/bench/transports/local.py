"""This machine as a device."""

from __future__ import annotations

from contextlib import suppress

from rexnet_export.apps.bench.transports.posix import LOCAL, PosixTransport
from rexnet_export.pipeline.machine.cache_folder import cache_folder


def local() -> PosixTransport:
    """Through this machine's own shell, in a folder that only this user can write to."""
    root = cache_folder("bench")
    with suppress(OSError):  # the run says that it cannot be written to
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
    return PosixTransport(name=LOCAL, process_kind="shell", roots=(str(root),), prefix=("sh", "-c"))
