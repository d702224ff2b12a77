"""Paired statistics of a reference and a candidate on the same images.

Everywhere `worse` counts the images that the reference has right and the candidate wrong, `better` those the other way
round, `images` all of them; drops are fractions (0.01 is one point), positive where the candidate is worse.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtrc, ndtr, ndtri

RESAMPLES = 10_000


def mcnemar_p(worse: int, better: int) -> float:
    """One-sided p of "the candidate is not worse": McNemar's test, exact by the binomial distribution."""
    return float(bdtrc(worse - 1, worse + better, 0.5)) if worse else 1.0


def drop_upper_limit(worse: int, better: int, images: int, confidence: float = 0.95) -> float:
    """One-sided upper limit of the accuracy drop (fraction), Tango's score interval for paired proportions.

    `worse` images the reference has right and the candidate wrong, `better` the other way round, of `images`.
    Tango, Statistics in Medicine 17 (1998) 891-908.
    """
    from scipy.optimize import brentq  # noqa: PLC0415 - slow to import

    if worse - better == images:
        return 1.0
    quantile = float(ndtri(confidence))
    observed = (worse - better) / images
    return float(brentq(lambda drop: _tango_z(worse, better, images, drop) + quantile, observed, 1 - 1e-9))


def upper_limit(worse: int, better: int, images: int, confidence: float = 0.95) -> float:
    """The limit that reports and verdicts name: Tango's; where no image differs the exact one, a little wider."""
    if worse + better == 0:
        return no_discordance_limit(images, confidence)
    return drop_upper_limit(worse, better, images, confidence)


def lower_limit(worse: int, better: int, images: int, confidence: float = 0.95) -> float:
    """The other side of `upper_limit`: a drop above it is shown."""
    if worse + better == 0:
        return -no_discordance_limit(images, confidence)
    return drop_lower_limit(worse, better, images, confidence)


def margin_p(worse: int, better: int, images: int, margin: float) -> float:
    """One-sided p of "the drop is `margin` (fraction) or more": below alpha exactly where `upper_limit` at 1 - alpha
    is below the margin, so that claims on several candidates can be corrected."""
    if worse + better == 0:
        return math.exp(images * math.log1p(-margin))
    return 1.0 if worse - better == images else float(ndtr(_tango_z(worse, better, images, margin)))


def drop_lower_limit(worse: int, better: int, images: int, confidence: float = 0.95) -> float:
    """One-sided lower limit of the accuracy drop: the upper limit with the sides changed."""
    return -drop_upper_limit(better, worse, images, confidence)


def no_discordance_limit(images: int, confidence: float = 0.95) -> float:
    """Exact one-sided upper limit of the drop where no image differs: at that rate none would in 5 of 100 tries."""
    return -math.expm1(math.log1p(-confidence) / images)


def share_limits(right: int, images: int, confidence: float = 0.95) -> tuple[float, float]:
    """Two-sided limits of a share such as top-1: Wilson's score interval."""
    z = float(ndtri(0.5 + confidence / 2))
    share, spread = right / images, z * z / images
    middle = share + spread / 2
    half = z * math.sqrt(share * (1 - share) / images + spread / (4 * images))
    return (middle - half) / (1 + spread), (middle + half) / (1 + spread)


def ratio_limits(
    counts: tuple[int, int, int, int], ratio: float, confidence: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """One-sided lower and upper limit of mean(candidate right - ratio * reference right), MLPerf's "99 % of FP32".

    `counts`: images that both have right, only the reference, only the candidate, neither. Paired bootstrap: drawing
    images with replacement is drawing these four counts from a multinomial distribution.
    """
    images = sum(counts)
    gain = np.array([1 - ratio, -ratio, 1.0, 0.0])
    drawn = np.random.default_rng(seed).multinomial(images, np.array(counts) / images, size=RESAMPLES)
    low, high = np.quantile(drawn @ gain / images, [1 - confidence, confidence])
    return float(low), float(high)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p values: rejecting those below alpha keeps the chance of any false claim below alpha.

    Holm, Scandinavian Journal of Statistics 6 (1979) 65-70.
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


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
