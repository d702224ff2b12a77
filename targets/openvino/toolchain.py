"""OpenVINO, imported without its usage statistics, and loaded once."""

from __future__ import annotations

import importlib
import sys
from functools import cache
from typing import Any

TELEMETRY = "openvino_telemetry"

type Runtime = Any  # OpenVINO's Python classes say little of their types


def runtime() -> Runtime:
    """The package `openvino`.

    Importing it tells Google Analytics so, unasked, and numbers this person in their home folder; where its package for
    that is missing it does without. So, for the time of the import, it is missing.
    """
    if "openvino" not in sys.modules and TELEMETRY not in sys.modules:
        # None is how an import is refused.
        sys.modules[TELEMETRY] = None  # type: ignore[assignment]
        try:
            importlib.import_module("openvino")
        finally:
            del sys.modules[TELEMETRY]
    return importlib.import_module("openvino")


@cache
def core() -> Runtime:
    """The one `openvino.Core` of this process.

    The CPU plugin of each gives the thread a stack for signals, and in the end the one that was there before, even
    where that belonged to a plugin that is gone. Two that overlap so leave memory that is no longer mapped, and the
    next signal, be it Ctrl-C, ends the process with a segmentation fault (OpenVINO 2026.4.1).
    """
    return runtime().Core()
