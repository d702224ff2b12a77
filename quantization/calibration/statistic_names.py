"""The range statistics by name: what may be asked for, without the arithmetic behind it (that is in `ranges`)."""

from __future__ import annotations

import re

from rexnet_export.pipeline.core.errors import UsageError

AUTO = "auto"
LEAST_NOISE = "logit-mse"
NAMED = ("min-max", "mean-min-max", "entropy", "mse")
DEFAULT_PERCENTILE = 99.99
_PERCENTILE = re.compile(r"percentile(?:-(?P<percent>\d{1,3}(?:\.\d+)?))?")


def check_statistic(statistic: str) -> None:
    """Raise `UsageError` for what is neither a statistic nor `auto`, which chooses one for each tensor."""
    if statistic != AUTO and statistic not in NAMED:
        percent_of(statistic)


def percent_kept(statistic: str) -> float | None:
    """The P of `percentile-P`; None for a statistic that is no percentile."""
    return percent_of(statistic) if _PERCENTILE.fullmatch(statistic) else None


def percent_of(statistic: str) -> float:
    """The P of `percentile-P`, 99.99 of `percentile`; `UsageError` for anything else."""
    match = _PERCENTILE.fullmatch(statistic)
    if match and 50.0 < (percent := float(match["percent"] or DEFAULT_PERCENTILE)) <= 100.0:
        return percent
    raise UsageError(
        f"unknown statistic {statistic!r}; use {AUTO}, {', '.join(NAMED)}, percentile, or percentile-P with "
        "50 < P <= 100"
    )
