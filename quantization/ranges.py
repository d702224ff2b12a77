"""From what was observed to the range that INT8 shall cover."""

from __future__ import annotations

import re

import numpy as np

from rexnet_export.pipeline.errors import UsageError
from rexnet_export.quantization.observe import BINS, TensorStatistics

DEFAULT_PERCENTILE = 99.99
_STATISTIC = re.compile(r"min-max|percentile(?:-(?P<percent>\d{1,3}(?:\.\d+)?))?")


def observed_range(statistics: TensorStatistics, statistic: str) -> tuple[float, float]:
    """(low, high) by `min-max`, `percentile` (99.99) or `percentile-P`, which drops (100 - P) / 2 % at each end."""
    percent = _percent(statistic)
    if percent is None:
        return statistics.minimum, statistics.maximum
    cumulative = np.cumsum(statistics.counts)
    dropped = int(cumulative[-1] * (100.0 - percent) / 200.0)
    first = int(np.searchsorted(cumulative, dropped, side="right"))
    last = int(np.searchsorted(cumulative, cumulative[-1] - dropped, side="left"))
    width = 2.0**statistics.exponent
    # A bin is kept whole; the ends of the range are values that did occur, so never beyond the exact extremes.
    return max((first - BINS) * width, statistics.minimum), min((last - BINS + 1) * width, statistics.maximum)


def check_statistic(statistic: str) -> None:
    """Raise `UsageError` for a statistic that `observed_range` does not know."""
    _percent(statistic)


def _percent(statistic: str) -> float | None:
    match = _STATISTIC.fullmatch(statistic)
    percent = float(match["percent"] or DEFAULT_PERCENTILE) if match else 0.0
    if not match or not 50.0 < percent <= 100.0:
        raise UsageError(f"unknown statistic {statistic!r}; use min-max, percentile or percentile-P with 50 < P <= 100")
    return percent if statistic.startswith("percentile") else None
