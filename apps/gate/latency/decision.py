"""What interleaved blocks say of two artifacts' speed: a ratio, how sure it is, and whether it is too slow.

Two blocks that ran side by side, one of each artifact, are a pair. Pairs, not single inferences, are what varies
independently: inferences of one block share whatever the machine did meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from rexnet_export.pipeline.core.records import AtLeastOne, Count, Measurement, NotMeasured, Positive, Text
from rexnet_export.pipeline.timing.blocks import LARGEST_DRIFT, steady

type Side = Literal["base", "candidate"]
type Verdict = Literal["PASS", "FAIL", "INCONCLUSIVE", "INVALID"]

ALPHA = 0.05  # of each one-sided limit
POWER = 0.90  # of the number of pairs advised
RESAMPLES = 5_000
FEW_PAIRS = 12  # with fewer, a bootstrap knows too few values; order statistics are exact
MOST_DROPPED = 0.25  # of the pairs
MEDIAN_TO_MEAN = 1.2533  # standard error of a median over that of a mean, normal distribution: sqrt(pi / 2)
MAD_TO_SD = 1.4826  # normal distribution
TOO_FEW = NotMeasured(reason="fewer than 5 pairs have no 95 % limit")


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One block of each artifact in the order they ran: nanoseconds of every inference that counts, and of the
    reference kernel just before and just after."""

    order: tuple[Side, Side]
    base_ns: tuple[int, ...]
    candidate_ns: tuple[int, ...]
    kernel_before_ns: int
    kernel_after_ns: int

    @property
    def log_ratio(self) -> float:
        """ln(median of the candidate / median of the base)."""
        return math.log(np.median(self.candidate_ns) / np.median(self.base_ns))

    @property
    def steady(self) -> bool:
        """Whether the machine was as fast after the pair as before it, as far as the reference kernel shows."""
        return steady(self.kernel_before_ns, self.kernel_after_ns)


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """How many times as long the candidate takes: the median over pairs with its one-sided 95 % limits."""

    value: Positive
    lower: Positive
    upper: Positive
    method: Text


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The verdict on the pairs of one run at a margin, and why; `pairs_needed` would decide at this ratio."""

    verdict: Verdict
    reason: Text
    ratio: Measurement[Ratio]
    pairs: AtLeastOne
    dropped: Count
    pairs_needed: Measurement[AtLeastOne]


def decide(pairs: Sequence[Pair], margin: float, seed: int) -> Decision:
    """Judge the steady pairs: at most `margin` slower (0.1: a tenth) with 95 % confidence, surely more, or neither.

    Pairs are never replaced: how many there are was fixed before the first one ran.
    """
    logs = [pair.log_ratio for pair in pairs if pair.steady]
    dropped = len(pairs) - len(logs)
    ratio = interval(logs, seed)
    verdict, reason = _verdict(ratio, margin, len(pairs), dropped)
    undecided = verdict == "INCONCLUSIVE" and isinstance(ratio, Ratio)
    needed = advised_pairs(logs, margin) if undecided else NotMeasured(reason="the pairs there are decide")
    return Decision(
        verdict=verdict,
        reason=reason,
        ratio=ratio,
        pairs=len(pairs),
        dropped=dropped,
        pairs_needed=TOO_FEW if isinstance(ratio, NotMeasured) else needed,
    )


def _verdict(ratio: Measurement[Ratio], margin: float, pairs: int, dropped: int) -> tuple[Verdict, str]:
    if dropped > MOST_DROPPED * pairs:
        return "INVALID", (
            f"the reference kernel changed by more than {LARGEST_DRIFT:.0%} over {dropped} of {pairs} pairs: "
            "the machine is throttled or busy"
        )
    if isinstance(ratio, NotMeasured):
        return "INCONCLUSIVE", ratio.reason
    if ratio.lower > 1 + margin:
        return "FAIL", f"at least {ratio.lower:.3f} times as long, more than the {1 + margin:g} allowed"
    if ratio.upper < 1 + margin:
        return "PASS", f"at most {ratio.upper:.3f} times as long, {1 + margin:g} allowed"
    return "INCONCLUSIVE", f"{ratio.lower:.3f} to {ratio.upper:.3f} times as long has the {1 + margin:g} allowed inside"


def interval(logs: Sequence[float], seed: int) -> Measurement[Ratio]:
    """exp of the median of log-ratios, with limits by the bootstrap over pairs, or by order statistics below 12."""
    if len(logs) < FEW_PAIRS:
        limits = order_statistic_limits(logs)
        method = "order statistics"
    else:
        limits = bootstrap_limits(np.asarray(logs, np.float64), seed)
        method = f"bootstrap over pairs, {RESAMPLES:,} resamples"
    if isinstance(limits, NotMeasured):
        return limits
    lower, upper = map(math.exp, limits)
    return Ratio(value=math.exp(np.median(logs)), lower=lower, upper=upper, method=method)


def bootstrap_limits(logs: NDArray[np.float64], seed: int) -> tuple[float, float]:
    """The 5th and 95th percentile of the median of resampled pairs."""
    chosen = np.random.default_rng(seed).integers(len(logs), size=(RESAMPLES, len(logs)))
    lower, upper = np.quantile(np.median(logs[chosen], axis=1), [ALPHA, 1 - ALPHA])
    return float(lower), float(upper)


def order_statistic_limits(logs: Sequence[float]) -> Measurement[tuple[float, float]]:
    """One-sided 95 % limits of the median that hold for any distribution.

    The r-th smallest of k is below the median but for P(Binomial(k, 1/2) < r); r is the largest for which that is 5 %.
    """
    rank = int(stats.binom.ppf(ALPHA, len(logs), 0.5)) if logs else 0
    if not rank:
        return TOO_FEW
    ordered = sorted(logs)
    return ordered[rank - 1], ordered[-rank]


def advised_pairs(logs: Sequence[float], margin: float) -> Measurement[int]:
    """Pairs that decide with 90 % power, were the ratio the one seen; its spread is taken without the outliers."""
    middle = float(np.median(logs))
    gap = abs(math.log1p(margin) - middle)
    if not gap:
        return NotMeasured(reason="the ratio is the margin itself: no number of pairs decides")
    return pairs_needed(MAD_TO_SD * float(np.median(np.abs(np.asarray(logs) - middle))), gap)


def pairs_needed(sd: float, gap: float) -> int:
    """((z_.95 + z_.90) * 1.2533 * sd / gap)^2, rounded up: for a median of log-ratios of that standard deviation,
    `gap` away from the margin, with 90 % power (normal approximation)."""
    quantiles = float(stats.norm.ppf(1 - ALPHA) + stats.norm.ppf(POWER))
    return max(1, math.ceil((quantiles * MEDIAN_TO_MEAN * sd / gap) ** 2))
