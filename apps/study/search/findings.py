"""What a channel search found: do the best configurations lie nearer to a straight line than the rest?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev

from rexnet_export.apps.study.search.channel_space import linearity
from rexnet_export.apps.study.search.journal import TrialResult

SIGNIFICANT = 0.05
FEWEST = 10  # configurations for a verdict


@dataclass(frozen=True, kw_only=True)
class Group:
    """Configurations of like accuracy: the paper's top 10 %, 50 to 60 %, and bottom 10 %."""

    name: str
    size: int
    top1: float
    spread: float
    linearity: float
    parameters: float
    macs: float
    example: str


@dataclass(frozen=True, kw_only=True)
class Findings:
    """The groups, Spearman's correlation of accuracy and linearity with its p-value, and what follows.

    `cost` says how far multiply-accumulates, which the limits bound but do not make equal, could explain it.
    """

    groups: tuple[Group, ...]
    correlation: float
    p_value: float
    verdict: str
    cost: str


def findings(results: Sequence[TrialResult]) -> Findings:
    """Compare the groups and correlate over all configurations."""
    ordered = sorted(results, key=lambda result: (-result.mean, result.index))
    size = max(1, round(len(ordered) / 10))
    middle = min(len(ordered) // 2, len(ordered) - size)
    groups = (
        _group("top 10 %", ordered[:size]),
        _group("50 to 60 %", ordered[middle : middle + size]),
        _group("bottom 10 %", ordered[-size:]),
    )
    accuracy = [r.mean for r in ordered]
    correlation, p_value = _spearman(accuracy, [linearity(r.channels) for r in ordered])
    return Findings(
        groups=groups,
        correlation=correlation,
        p_value=p_value,
        verdict=_verdict(len(ordered), groups, correlation, p_value),
        cost=_cost(*_spearman(accuracy, [r.macs for r in ordered])),
    )


def _group(name: str, members: Sequence[TrialResult]) -> Group:
    return Group(
        name=name,
        size=len(members),
        top1=fmean(member.mean for member in members),
        spread=pstdev([member.mean for member in members]),
        linearity=fmean(linearity(member.channels) for member in members),
        parameters=fmean(member.parameters for member in members),
        macs=fmean(member.macs for member in members),
        example="-".join(map(str, members[0].channels)),
    )


def _spearman(accuracy: Sequence[float], other: Sequence[float]) -> tuple[float, float]:
    from scipy.stats import spearmanr  # noqa: PLC0415 - a second to import

    if len(set(accuracy)) < 2 or len(set(other)) < 2:
        return 0.0, 1.0
    found = spearmanr(accuracy, other)
    return float(found.statistic), float(found.pvalue)


def _verdict(count: int, groups: Sequence[Group], correlation: float, p_value: float) -> str:
    said = (
        f"Spearman's correlation of accuracy and linearity over {count} configurations: {correlation:+.2f}, "
        f"p = {p_value:.2g}"
    )
    if count < FEWEST:
        return f"Linear parameterization: too few configurations to say. {said}."
    top, _, bottom = groups
    if p_value < SIGNIFICANT and correlation > 0 and top.linearity > bottom.linearity:
        return f"Linear parameterization recovered: better configurations lie nearer to a straight line. {said}."
    if p_value < SIGNIFICANT and correlation < 0:
        return f"Linear parameterization contradicted: better configurations lie further from a straight line. {said}."
    return f"Linear parameterization not recovered: accuracy and linearity do not rise together significantly. {said}."


def _cost(correlation: float, p_value: float) -> str:
    said = f"correlation {correlation:+.2f}, p = {p_value:.2g}"
    if p_value >= SIGNIFICANT:
        return f"Accuracy and multiply-accumulates do not go together significantly: {said}."
    if correlation < 0:
        return f"Accuracy falls with multiply-accumulates: {said}."
    return (
        f"Accuracy rises with multiply-accumulates too: {said}. The limits bound them and do not make them equal, so "
        "cost may explain a part."
    )
