"""OpenVINO, imported without its usage statistics."""

from __future__ import annotations

import importlib
import sys
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
