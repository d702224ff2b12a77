"""Memory that has been freed, and that the C library keeps in case it is wanted again."""

from __future__ import annotations

import ctypes
import sys


def give_back() -> None:
    """Hand it back to the system, behind work whose like does not follow; only glibc has to be asked."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:  # musl has none
        trim(0)
