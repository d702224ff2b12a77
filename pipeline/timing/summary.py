"""Durations in one line: integers, order statistics, and no percentile that its sample cannot carry."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeVar

Duration = TypeVar("Duration", int, float)

SAMPLES_FOR_P90, SAMPLES_FOR_P99 = 64, 662
BOUND_CONFIDENCE = 0.99
RATIO_CONFIDENCE = 0.9  # two one-sided limits of 95 %


def quantile(values: Sequence[Duration], share: float) -> Duration:
    """The smallest value that at least `share` of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def median(values: Sequence[int]) -> int:
    """The middle value; of two middle ones the mean, rounded down."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) // 2


def describe(values: Sequence[int]) -> tuple[dict[str, Any], dict[str, str]]:
    """Statistics of durations in ns, and for each that is null the reason."""
    n = len(values)
    mean = sum(values) / n
    centre = median(values)
    spread = math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1)) if n > 1 else 0.0
    found: dict[str, Any] = {
        "n": n,
        "min_ns": min(values),
        "p50_ns": centre,
        "p90_ns": quantile(values, 0.9) if n >= SAMPLES_FOR_P90 else None,
        "p99_ns": quantile(values, 0.99) if n >= SAMPLES_FOR_P99 else None,
        "mean_ns": round(mean),
        "std_ns": round(spread),
        "mad_ns": median([abs(value - centre) for value in values]),
        "cv": spread / mean,
        "lag1_autocorr": _lag1(values, mean),
        "p90_bound": p90_bound(values),
    }
    needed = {"p90_ns": SAMPLES_FOR_P90, "p99_ns": SAMPLES_FOR_P99, "p90_bound": SAMPLES_FOR_P90}
    return found, {key: f"needs {least} samples, has {n}" for key, least in needed.items() if found[key] is None}


def p90_bound(values: Sequence[int]) -> dict[str, Any] | None:
    """An upper bound on the 90th percentile of independent samples by order statistics (LoadGen's early stopping).

    The largest `t - 1` values are left out and the next one is the bound; `t` is the largest number that so many of n
    values or fewer exceed the percentile only with probability 1 - confidence.
    """
    n, t = len(values), 0
    while _at_most(t + 1, n, 0.1) <= 1 - BOUND_CONFIDENCE:
        t += 1
    if t == 0:
        return None
    return {"value_ns": sorted(values)[n - t], "confidence": BOUND_CONFIDENCE, "n": n, "t": t}


def paired_ratio(ratios: Sequence[float], seed: int) -> dict[str, Any] | None:
    """Median of candidate / baseline over pairs of blocks, with the distribution-free interval of a median."""
    n, rank = len(ratios), 0
    while _at_most(rank, n, 0.5) <= (1 - RATIO_CONFIDENCE) / 2:
        rank += 1
    if rank == 0:
        return None
    ordered = sorted(ratios)
    middle = n // 2
    centre = ordered[middle] if n % 2 else math.sqrt(ordered[middle - 1] * ordered[middle])
    return {
        "ratio_median": centre,
        "ci_low": ordered[rank - 1],
        "ci_high": ordered[n - rank],
        "confidence": RATIO_CONFIDENCE,
        "pairs": n,
        "method": "order statistics of the median over pairs",
        "seed": seed,
    }


def _at_most(successes: int, n: int, share: float) -> float:
    """P(X <= successes) for X ~ Binomial(n, share)."""
    total = 0.0
    for k in range(min(successes, n) + 1):
        chosen = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
        total += math.exp(chosen + k * math.log(share) + (n - k) * math.log1p(-share))
    return total


def _lag1(values: Sequence[int], mean: float) -> float | None:
    variance = sum((value - mean) ** 2 for value in values)
    if not variance:
        return None
    return sum((a - mean) * (b - mean) for a, b in zip(values, values[1:])) / variance
