"""The trained checkpoint that comes with the package."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

BUNDLED_CHECKPOINT = "rexnet_100-fashion-mnist-64.safetensors"


def bundled_checkpoint() -> Path:
    """Where it is."""
    return Path(str(files("rexnet_export.assets").joinpath(BUNDLED_CHECKPOINT)))
