"""This machine and the versions of the tools on it."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypedDict

TOOLS = ("rexnet-export", "torch", "onnx", "onnxruntime", "onnx2tf", "ai-edge-litert", "coremltools", "numpy", "pillow")


class Environment(TypedDict):
    """Machine and tool versions; a tool that is not installed has none."""

    system: str
    processor: str
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
