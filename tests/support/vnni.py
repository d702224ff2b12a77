"""Whether x86 adds up INT8 products as they are, by what Linux lists of the processor."""

from pathlib import Path

import pytest


def processor_loses_sums() -> bool:
    """Among x86 processors those with VNNI or AMX have room for the sums; the test is skipped where it is none."""
    listed = Path("/proc/cpuinfo")
    if not listed.exists():
        pytest.skip("the processor is known from Linux's list alone")
    _, found, features = listed.read_text(encoding="utf-8").partition("flags")
    if not found:
        pytest.skip("no x86 processor")
    return {"avx512_vnni", "avx_vnni", "amx_int8"}.isdisjoint(features.partition("\n")[0].split())
