"""Paired statistics of a reference and a candidate on the same images."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import norm


def drop_upper_limit(worse: int, better: int, images: int, confidence: float = 0.95) -> float:
    """One-sided upper limit of the accuracy drop (fraction), Tango's score interval for paired proportions.

    `worse` images the reference has right and the candidate wrong, `better` the other way round, of `images`.
    Tango, Statistics in Medicine 17 (1998) 891-908.
    """
    if worse - better == images:
        return 1.0
    quantile = float(norm.ppf(confidence))
    observed = (worse - better) / images
    return float(brentq(lambda drop: _tango_z(worse, better, images, drop) + quantile, observed, 1 - 1e-9))


def _tango_z(worse: int, better: int, images: int, drop: float) -> float:
    """Score statistic of the hypothesis that the true drop is `drop`."""
    b = (2 * images - worse + better) * drop - worse - better
    c = -better * drop * (1 - drop)
    q = (math.sqrt(max(b * b - 8 * images * c, 0.0)) - b) / (4 * images)
    variance = images * (2 * q + drop * (1 - drop))
    distance = worse - better - images * drop
    if variance <= 0:
        return 0.0 if abs(distance) < 1e-12 else math.copysign(math.inf, distance)
    return distance / math.sqrt(variance)


def sqnr_db(reference: NDArray[np.floating], candidate: NDArray[np.floating]) -> float:
    """Signal to quantization noise ratio in decibels; infinite when both are equal."""
    signal = float(np.sum(np.square(reference, dtype=np.float64)))
    noise = float(np.sum(np.square(reference.astype(np.float64) - candidate)))
    return math.inf if noise == 0 else 10 * math.log10(signal / noise) if signal else -math.inf
