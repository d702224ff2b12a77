"""This machine as a device."""

from __future__ import annotations

import tempfile

from rexnet_export.apps.bench.transports.posix import PosixTransport


def local() -> PosixTransport:
    """Through this machine's own shell."""
    return PosixTransport(name="local", process_kind="shell", roots=(tempfile.gettempdir(),), prefix=("sh", "-c"))
