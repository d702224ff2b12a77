"""What glibc keeps of freed memory goes back to the system."""

import platform
import resource
from pathlib import Path

import pytest

from rexnet_export.pipeline.machine.heap import give_back

BLOCK, COUNT = 4096, 20_000  # bytes: beyond Python's own pools, and too small for mappings of their own


def resident() -> int:
    """Bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone keeps so much")
def test_freed_memory_below_what_is_still_used_is_given_back() -> None:
    blocks = [bytes([7]) * BLOCK for _ in range(COUNT)]
    last = blocks[-1]  # above it nothing is free, and below it glibc gives nothing back by itself
    del blocks
    before = resident()
    give_back()
    assert before - resident() > BLOCK * COUNT / 2
    assert last[0] == 7
