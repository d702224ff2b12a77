"""The accuracy gate's decision rule: from counts on the same images and a policy to a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rexnet_export.apps.gate.accuracy.sample_size import (
    images_to_detect,
    images_to_prove,
    images_without_discordance,
    require_margin,
)
from rexnet_export.apps.gate.words import OnInconclusive
from rexnet_export.pipeline.accuracy.paired_statistics import (
    holm,
    lower_limit,
    mcnemar_p,
    ratio_limits,
    upper_limit,
)
from rexnet_export.pipeline.core.errors import UsageError
from rexnet_export.pipeline.core.records import AtLeastOne, Count, Drop, Fraction, NotNegative, Text

type Outcome = Literal["pass", "pass_with_note", "fail_certain", "fail", "inconclusive"]
FAILURES: frozenset[str] = frozenset({"fail", "fail_certain"})


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What is allowed; drops are fractions.

    `margin` the largest drop, `tolerance` the drop up to which a real one is no failure, `alpha` the error of the
    limits (for passing, and for failing with certainty), `fail_alpha` of claims by p, `ratio` MLPerf's target.
    """

    margin: Fraction
    tolerance: Fraction
    alpha: Fraction = 0.05
    fail_alpha: Fraction = 0.05
    ratio: Fraction | None = None
    on_inconclusive: OnInconclusive = "fail"

    def __post_init__(self) -> None:
        """Refuse values under which nothing, or everything, would pass."""
        require_margin(self.margin)
        if not 0 <= self.tolerance <= self.margin:
            raise UsageError(
                f"tolerance {100 * self.tolerance:g}: must be from 0 to the margin, {100 * self.margin:g} points"
            )
        for name, value in (("alpha", self.alpha), ("fail-alpha", self.fail_alpha)):
            if not 0 < value < 0.5:
                raise UsageError(f"{name} {value:g}: must be between 0 and 0.5, such as 0.05")
        if self.ratio is not None and not 0 < self.ratio <= 1:
            raise UsageError(f"ratio {self.ratio:g}: must be above 0 and at most 1, such as 0.99")


@dataclass(frozen=True, kw_only=True)
class Counts:
    """A candidate beside its reference on the same images: how many both have right, only the reference
    (`worse`), only the candidate (`better`), neither; and on how many both choose the same class."""

    both: int
    worse: int
    better: int
    neither: int
    same: int

    @property
    def images(self) -> int:
        """All images."""
        return self.both + self.worse + self.better + self.neither

    @property
    def drop(self) -> float:
        """Of accuracy; negative where the candidate is better."""
        return (self.worse - self.better) / self.images

    @property
    def discordance(self) -> float:
        """Share of images that exactly one of both has right."""
        return (self.worse + self.better) / self.images


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """What a verdict rests on: fractions of all images, p values, one-sided limits at the policy's alpha.

    `more_images` is how many are missing for a decision, None where there is one.
    """

    images: AtLeastOne
    worse: Count
    better: Count
    top1: Fraction
    reference_top1: Fraction
    drop: Drop
    drop_lower: Drop
    drop_upper: Drop
    discordance: Fraction
    agreement: Fraction
    p: Fraction
    p_holm: Fraction
    margin: Fraction
    tolerance: Fraction
    more_images: AtLeastOne | None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """An outcome, the numbers it rests on, and for a person one sentence, and what to do next where that is known."""

    outcome: Outcome
    message: str
    next_step: str | None
    numbers: Numbers


@dataclass(frozen=True, kw_only=True)
class RatioVerdict:
    """The same for a ratio target; the limits are those of mean(candidate right - ratio * reference right)."""

    outcome: Outcome
    message: Text
    images: AtLeastOne
    ratio: Fraction
    observed: NotNegative
    lower: float
    upper: float


def decide_all(counts: Sequence[Counts], policy: Policy) -> list[Verdict]:
    """One verdict for each; claims of failure by p are corrected for there being several (Holm)."""
    p_values = [mcnemar_p(count.worse, count.better) for count in counts]
    return [decide(count, policy, corrected) for count, corrected in zip(counts, holm(p_values), strict=True)]


def decide(counts: Counts, policy: Policy, p_holm: float | None = None) -> Verdict:
    """The first row of the rule that holds; `p_holm` is p corrected for other targets, by default p itself."""
    numbers = _numbers(counts, policy, p_holm)
    outcome = _outcome(numbers, policy)
    more = _more_images(counts, policy) if outcome == "inconclusive" else None
    numbers = Numbers(**{**vars(numbers), "more_images": more})
    step = None if more is None else f"about {more:,} more images are needed"
    return Verdict(outcome=outcome, message=_message(outcome, numbers), next_step=step, numbers=numbers)


def decide_ratio(counts: Counts, ratio: float, alpha: float = 0.05) -> RatioVerdict:
    """Whether the candidate's accuracy is shown to be at least `ratio` of the reference's."""
    lower, upper = ratio_limits((counts.both, counts.worse, counts.better, counts.neither), ratio, 1 - alpha)
    outcome: Outcome = "pass" if lower >= 0 else "fail" if upper < 0 else "inconclusive"
    reference = counts.both + counts.worse
    observed = (counts.both + counts.better) / reference if reference else 1.0
    said = {"pass": "at least", "fail": "below", "inconclusive": "neither shown to be at least, nor to be below,"}
    message = f"{observed:.2%} of the reference's top-1: {said[outcome]} {ratio:.1%}"
    return RatioVerdict(
        outcome=outcome,
        message=message,
        images=counts.images,
        ratio=ratio,
        observed=observed,
        lower=lower,
        upper=upper,
    )


def _numbers(counts: Counts, policy: Policy, p_holm: float | None) -> Numbers:
    p = mcnemar_p(counts.worse, counts.better)
    return Numbers(
        images=counts.images,
        worse=counts.worse,
        better=counts.better,
        top1=(counts.both + counts.better) / counts.images,
        reference_top1=(counts.both + counts.worse) / counts.images,
        drop=counts.drop,
        drop_lower=lower_limit(counts.worse, counts.better, counts.images, 1 - policy.alpha),
        drop_upper=upper_limit(counts.worse, counts.better, counts.images, 1 - policy.alpha),
        discordance=counts.discordance,
        agreement=counts.same / counts.images,
        p=p,
        p_holm=p if p_holm is None else p_holm,
        margin=policy.margin,
        tolerance=policy.tolerance,
        more_images=None,
    )


def _outcome(found: Numbers, policy: Policy) -> Outcome:
    """The rule; its order is the point (`docs/decisions/0010-order-of-the-gate.md`)."""
    if found.drop_upper < policy.margin:
        return "pass" if found.p >= policy.fail_alpha else "pass_with_note"
    if found.drop_lower > policy.margin:
        return "fail_certain"
    if found.p_holm < policy.fail_alpha and found.drop > policy.tolerance:
        return "fail"
    return "inconclusive"


def _more_images(counts: Counts, policy: Policy) -> int:
    """Images missing until one of two decisions has a chance of 80 %, if the rates seen are the true ones: that the
    drop is below the margin, or that it is real and above the tolerance."""
    least = images_without_discordance(policy.margin, policy.alpha)
    drop, discordance = max(counts.drop, 0.0), counts.discordance
    needed = []
    if drop < policy.margin:
        needed.append(max(least, images_to_prove(discordance, policy.margin, drop, alpha=policy.alpha)))
    if drop > policy.tolerance:
        needed.append(images_to_detect(discordance, drop, alpha=policy.fail_alpha))
    return max(1, min(needed, default=2 * counts.images) - counts.images)


def seen(found: Numbers) -> str:
    """The drop with its limits, where they decide nothing."""
    drop, upper, lower = (f"{100 * value:+.2f}" for value in (found.drop, found.drop_upper, found.drop_lower))
    return f"drop {drop} points, between {lower} and {upper}"


def undecided(found: Numbers) -> str:
    """Why they decide nothing."""
    return f"{found.images:,} images cannot decide a margin of {100 * found.margin:g}"


def _message(outcome: Outcome, found: Numbers) -> str:
    drop, upper, lower = (f"{100 * value:+.2f}" for value in (found.drop, found.drop_upper, found.drop_lower))
    margin = f"{100 * found.margin:g}"
    match outcome:
        case "pass":
            return f"drop {drop} points, at most {upper}: below the margin of {margin}"
        case "pass_with_note":
            return f"drop {drop} points is real (p {found.p:.2g}) but at most {upper}: below the margin of {margin}"
        case "fail_certain":
            return f"drop {drop} points, at least {lower}: above the margin of {margin}"
        case "fail":
            return (
                f"drop {drop} points is real (p {found.p_holm:.2g}) and above the tolerance of "
                f"{100 * found.tolerance:g}, up to {upper}"
            )
        case "inconclusive":
            return f"{seen(found)}: {undecided(found)}"
