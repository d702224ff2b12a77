"""How slow the slowest may be: a bound on a percentile that assumes no distribution, or an honest refusal."""

from __future__ import annotations

import math
import sys
from bisect import bisect_left
from collections.abc import Sequence
from functools import cache

import numpy as np
from scipy.special import betainc

from rexnet_export.pipeline.core.records import Measurement, NotMeasured

CONFIDENCE = 0.99


def percentile_bound(samples: Sequence[int], percentile: float, confidence: float = CONFIDENCE) -> Measurement[int]:
    """What the percentile (0.9: P90) is at most, with confidence: all but the t - 1 largest samples are below it.

    t is the largest for which there are samples enough (`needed`): MLPerf LoadGen's early stopping. The samples must
    be independent; see `thinned`.
    """
    if len(samples) < needed(1, percentile, confidence):
        return NotMeasured(
            reason=f"P{100 * percentile:g} needs {needed(1, percentile, confidence)} independent inferences, "
            f"not {len(samples)}"
        )
    over = 1
    while needed(over + 1, percentile, confidence) <= len(samples):
        over += 1
    return sorted(samples)[-over]


@cache
def needed(over: int, percentile: float, confidence: float = CONFIDENCE) -> int:
    """Samples that must be there so that the `over`-th largest bounds the percentile: h + over, with the smallest h
    for which I_percentile(h, over + 1) <= 1 - confidence (regularized incomplete beta function)."""
    return over + bisect_left(
        range(sys.maxsize), confidence - 1, key=lambda below: -float(betainc(below, over + 1, percentile))
    )


def thinned(samples: Sequence[int]) -> tuple[int, ...]:
    """Samples at equal distances, far enough apart that neighbours no longer resemble each other.

    Far enough is the first lag at which the autocorrelation is within the noise of independent samples, 2 / sqrt(n).
    """
    values = np.asarray(samples, np.float64)
    values = values - values.mean()
    variance = float(values @ values)
    if not variance:
        return tuple(samples)
    noise = 2 / math.sqrt(len(values))
    lags = range(1, len(values))
    far = next((lag for lag in lags if abs(float(values[lag:] @ values[:-lag])) <= noise * variance), len(values))
    return tuple(samples[::far])
