"""The Python classes of the `.ort` schema and the tools around them, as ONNX Runtime ships them."""

from __future__ import annotations

import importlib
import logging
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType


@cache
def schema(table: str) -> ModuleType:
    """The module of one of the format's tables. It lies in `onnxruntime.tools`, but importing that imports torch."""
    found = find_spec("onnxruntime")
    assert found is not None
    assert found.submodule_search_locations is not None
    place = str(Path(found.submodule_search_locations[0]) / "tools" / "ort_format_model")
    if place not in sys.path:
        sys.path.append(place)
    return importlib.import_module(f"ort_flatbuffers_py.fbs.{table}")


def tools() -> ModuleType:
    """`onnxruntime.tools.ort_format_model`, which imports torch."""
    root, silent = logging.getLogger(), logging.NullHandler()
    root.addHandler(silent)  # with a handler there, the module does not set up the whole program's logging
    try:
        module = importlib.import_module("onnxruntime.tools.ort_format_model")
    finally:
        root.removeHandler(silent)
    logging.getLogger("ort_format_model.utils").setLevel(logging.WARNING)
    return module
