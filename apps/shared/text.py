"""Measurements as a person reads them."""

from __future__ import annotations

import math
from collections.abc import Callable

from rexnet_export.pipeline.core.records import Coverage, Measurement, NotMeasured

DASH = "-"


def int8_share(coverage: Coverage) -> str:
    """The INT8 share, rounded down: 100% means all of it."""
    return f"{math.floor(coverage.int8_mac_fraction * 100)}%"


def shown[T](value: Measurement[T], text: Callable[[T], str]) -> str:
    """The value as text, or a dash for what was not measured."""
    return DASH if isinstance(value, NotMeasured) else text(value)
