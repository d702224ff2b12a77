"""This machine and the versions of the tools on it."""

from __future__ import annotations

import math
import os
import platform
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypedDict

from rexnet_export.pipeline.core.reproducible import is_reproducible

# A container sees its own group here, whatever it is called outside.
CGROUPS = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/cpu"))
TOOLS = (
    "rexnet-export",
    "torch",
    "onnx",
    "onnxruntime",
    "onnx2tf",
    "ai-edge-litert",
    "coremltools",
    "openvino",
    "numpy",
    "pillow",
)


class Environment(TypedDict):
    """Machine and tool versions; a tool that is not installed has none, a machine that is not recorded no name."""

    system: str | None
    processor: str | None
    cores: int | None
    python: str
    packages: dict[str, str | None]


def environment() -> Environment:
    """Those of here and now."""
    return {
        "system": platform.platform(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "python": sys.version.split()[0],
        "packages": {name: _version(name) for name in TOOLS},
    }


def usable_cores() -> int:
    """How many cores this process may use: `taskset` or a container's quota may leave it fewer than the machine has."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([allowed, *map(math.ceil, filter(None, map(_quota, CGROUPS)))])


def _quota(cgroup: Path) -> float | None:
    """Cores that a container's processes may use together: `cpu.max` of version 2, two files of version 1."""
    try:
        if (cgroup / "cpu.max").is_file():
            quota, period = (cgroup / "cpu.max").read_text(encoding="ascii").split()
        else:
            quota, period = (
                (cgroup / f"cpu.cfs_{name}_us").read_text(encoding="ascii").strip() for name in ("quota", "period")
            )
        cores = int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):  # no such file, or "max": no quota
        return None
    return cores if cores > 0 else None  # version 1 says -1 for none


def free_memory() -> int | None:
    """Bytes that processes may still take, as the system and the container see it; None where they do not tell."""
    with suppress(OSError, ValueError, KeyError):
        free = _numbers(Path("/proc/meminfo"))["MemAvailable:"] * 1024
        with suppress(OSError, ValueError, KeyError):  # no container, or one without a limit
            group = Path("/sys/fs/cgroup")
            limit, taken = (int((group / f"memory.{name}").read_text(encoding="ascii")) for name in ("max", "current"))
            free = min(free, limit - taken + _numbers(group / "memory.stat")["inactive_file"])  # read files can go
        return max(0, free)
    return None


def _numbers(path: Path) -> dict[str, int]:
    """The first number of each line, by the line's first word."""
    lines = (line.split() for line in path.read_text(encoding="ascii").splitlines())
    return {name: int(number) for name, number, *_ in lines}


def recorded_environment() -> Environment:
    """Those of here and now; without the machine where records are to be reproducible."""
    known = environment()
    return {**known, "system": None, "processor": None, "cores": None} if is_reproducible() else known


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def processor() -> str:
    """The processor's name as the system gives it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
