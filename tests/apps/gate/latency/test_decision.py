"""Ratios of paired blocks: published values, laws that must hold, and how often the limits hold in simulation."""

import math
from collections.abc import Sequence
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rexnet_export.apps.gate.latency.decision import (
    Pair,
    Ratio,
    Verdict,
    bootstrap_limits,
    decide,
    interval,
    order_statistic_limits,
    pairs_needed,
)
from rexnet_export.pipeline.core.records import NotMeasured

logs_of_pairs = st.lists(st.floats(-0.5, 0.5), min_size=5, max_size=40)


def pair(ratio: float, drift: float = 0.0) -> Pair:
    """Blocks with outliers, whose medians are in that ratio; `drift` is the reference kernel's."""
    base = (1_000_000, 1_000_000, 90_000_000)
    return Pair(
        order=("base", "candidate"),
        base_ns=base,
        candidate_ns=(1_000, round(1_000_000 * ratio), 7_000_000_000),
        kernel_before_ns=1_000_000,
        kernel_after_ns=round(1_000_000 * (1 + drift)),
    )


def pairs(ratios: Sequence[float], drift: float = 0.0) -> list[Pair]:
    return [pair(ratio, drift) for ratio in ratios]


def noisy(ratio: float, sd: float, count: int, seed: int = 0) -> list[float]:
    return [ratio * math.exp(noise) for noise in np.random.default_rng(seed).normal(0, sd, count)]


@pytest.mark.parametrize(
    ("sd", "gap", "wanted"),
    [
        (0.01, 0.01, 14),
        (0.01, 0.02, 4),
        (0.01, 0.05, 1),
        (0.03, 0.01, 122),
        (0.03, 0.02, 31),
        (0.03, 0.05, 5),
        (0.05, 0.01, 337),
        (0.05, 0.02, 85),
        (0.05, 0.05, 14),
    ],
)
def test_pairs_needed_has_the_published_values(sd: float, gap: float, wanted: int) -> None:
    assert pairs_needed(sd, gap) == wanted


def test_a_pair_compares_medians() -> None:
    assert pair(1.25).log_ratio == pytest.approx(math.log(1.25))


@pytest.mark.parametrize(
    ("before", "after", "steady"), [(100, 110, True), (110, 100, True), (100, 111, False), (111, 100, False)]
)
def test_a_pair_is_steady_while_the_reference_kernel_stays_within_a_tenth(
    before: int, after: int, *, steady: bool
) -> None:
    found = Pair(
        order=("base", "candidate"), base_ns=(1,), candidate_ns=(1,), kernel_before_ns=before, kernel_after_ns=after
    )
    assert found.steady is steady


@pytest.mark.parametrize(
    ("ratios", "verdict"),
    [
        (noisy(1.0, 0.01, 20), "PASS"),
        (noisy(0.5, 0.01, 20), "PASS"),
        (noisy(1.05, 0.01, 20), "PASS"),
        (noisy(1.2, 0.01, 20), "FAIL"),
        (noisy(1.1, 0.05, 20), "INCONCLUSIVE"),
        (noisy(1.12, 0.1, 20), "INCONCLUSIVE"),
        (noisy(1.2, 0.01, 5), "FAIL"),
        (noisy(1.2, 0.01, 4), "INCONCLUSIVE"),
    ],
)
def test_verdicts(ratios: list[float], verdict: Verdict) -> None:
    assert decide(pairs(ratios), 0.1, seed=0).verdict == verdict


@pytest.mark.parametrize(("unsteady", "verdict"), [(5, "PASS"), (6, "INVALID")])
def test_more_than_a_quarter_of_unsteady_pairs_is_no_measurement(unsteady: int, verdict: Verdict) -> None:
    steady = pairs([1.0] * (20 - unsteady))
    found = decide([*steady, *pairs([3.0] * unsteady, drift=0.2)], 0.1, seed=0)
    assert (found.verdict, found.dropped, found.pairs) == (verdict, unsteady, 20)


def test_a_limit_of_the_margin_itself_decides_nothing() -> None:
    assert decide(pairs([1.5] * 20), 0.5, seed=0).verdict == "INCONCLUSIVE"


def test_a_slow_artifact_on_an_unsteady_machine_is_not_called_slow() -> None:
    assert decide(pairs([3.0] * 20, drift=0.5), 0.1, seed=0).verdict == "INVALID"


def test_unsteady_pairs_do_not_count() -> None:
    found = decide([*pairs([1.0] * 15), *pairs([9.0] * 5, drift=0.2)], 0.1, seed=0)
    assert isinstance(found.ratio, Ratio)
    assert found.ratio.upper == pytest.approx(1.0)


def test_undecided_says_how_many_pairs_would_decide() -> None:
    ratios = noisy(1.09, 0.05, 20, seed=1)
    found = decide(pairs(ratios), 0.1, seed=0)
    logs = np.log(ratios)
    spread = 1.4826 * float(np.median(np.abs(logs - np.median(logs))))
    gap = abs(math.log(1.1) - float(np.median(logs)))
    assert found.verdict == "INCONCLUSIVE"
    assert found.pairs_needed == pytest.approx(pairs_needed(spread, gap), rel=0.01)  # medians are whole nanoseconds
    assert isinstance(decide(pairs([1.0] * 20), 0.1, seed=0).pairs_needed, NotMeasured)


def test_every_verdict_can_be_reached() -> None:
    cases = ((1.0, 0.0, 20), (2.0, 0.0, 20), (1.0, 0.0, 4), (1.0, 0.5, 20))
    found = {decide(pairs([ratio] * count, drift), 0.1, seed=0).verdict for ratio, drift, count in cases}
    assert found == set(get_args(Verdict.__value__))


@pytest.mark.parametrize(("count", "method"), [(11, "order statistics"), (12, "bootstrap over pairs, 5,000 resamples")])
def test_few_pairs_take_order_statistics(count: int, method: str) -> None:
    found = interval(np.linspace(-1, 1, count).tolist(), seed=0)
    assert isinstance(found, Ratio)
    assert found.method == method


@pytest.mark.parametrize(("count", "rank"), [(5, 1), (7, 1), (8, 2), (10, 2), (11, 3)])
def test_order_statistics_have_the_binomial_ranks(count: int, rank: int) -> None:
    # P(Binomial(8, 1/2) < 2) = 9/256 = 3.5 %; P(Binomial(7, 1/2) < 2) = 8/128 = 6.3 %.
    assert order_statistic_limits([float(n) for n in range(1, count + 1)]) == (rank, count + 1 - rank)


def test_four_pairs_have_no_limit() -> None:
    for count in range(5):
        assert isinstance(order_statistic_limits([0.1] * count), NotMeasured)


def test_the_bootstraps_limits_are_the_order_statistics_that_its_definition_gives() -> None:
    # The median of 25 resampled values is at most the r-th with P(Binomial(25, r / 25) >= 13): 3.0 % for r = 8,
    # 7.4 % for r = 9.
    logs = np.random.default_rng(0).permutation(np.arange(1.0, 26.0))
    assert bootstrap_limits(logs, 0) == (9, 17)


def test_the_seed_decides_which_pairs_are_resampled() -> None:
    logs = np.random.default_rng(1).normal(size=400)
    assert bootstrap_limits(logs, 3) == bootstrap_limits(logs, 3)
    assert len({bootstrap_limits(logs, seed) for seed in range(20)}) > 1


@given(logs_of_pairs)
def test_the_limits_enclose_the_ratio(logs: list[float]) -> None:
    found = interval(logs, seed=0)
    assert isinstance(found, Ratio)
    assert found.lower <= found.value * (1 + 1e-12)
    assert found.value <= found.upper * (1 + 1e-12)


@given(logs_of_pairs, st.floats(-0.5, 0.5))
def test_a_common_factor_moves_everything(logs: list[float], factor: float) -> None:
    one, other = interval(logs, seed=0), interval([log + factor for log in logs], seed=0)
    assert isinstance(one, Ratio)
    assert isinstance(other, Ratio)
    for name in ("value", "lower", "upper"):
        assert getattr(other, name) == pytest.approx(getattr(one, name) * math.exp(factor))


@given(st.lists(st.floats(-0.5, 0.5), min_size=5, max_size=11))
def test_exchanging_the_sides_inverts_the_ratio(logs: list[float]) -> None:
    one, other = interval(logs, seed=0), interval([-log for log in logs], seed=0)
    assert isinstance(one, Ratio)
    assert isinstance(other, Ratio)
    assert (other.value, other.lower, other.upper) == pytest.approx((1 / one.value, 1 / one.upper, 1 / one.lower))


@given(logs_of_pairs, st.floats(0.001, 1.0))
def test_slower_is_never_judged_better(logs: list[float], slowdown: float) -> None:
    rank = {"PASS": 0, "INCONCLUSIVE": 1, "FAIL": 2}
    before, after = (
        decide(pairs([math.exp(log + more) for log in logs]), 0.1, seed=0).verdict for more in (0.0, slowdown)
    )
    assert rank[before] <= rank[after]


@given(logs_of_pairs, st.floats(0.01, 0.9), st.floats(0.01, 0.9))
def test_a_wider_margin_is_never_stricter(logs: list[float], one: float, other: float) -> None:
    rank = {"PASS": 0, "INCONCLUSIVE": 1, "FAIL": 2}
    blocks = pairs([math.exp(log) for log in logs])
    strict, wide = (decide(blocks, margin, seed=0).verdict for margin in sorted((one, other)))
    assert rank[wide] <= rank[strict]


@given(st.floats(0.001, 0.1), st.floats(0.001, 0.1), st.floats(1.0, 5.0))
def test_more_spread_and_less_gap_need_more_pairs(sd: float, gap: float, factor: float) -> None:
    assert pairs_needed(sd, gap) <= pairs_needed(sd * factor, gap)
    assert pairs_needed(sd, gap) <= pairs_needed(sd, gap / factor)


def coverage(count: int, repeats: int) -> float:
    """How often both one-sided 95 % limits hold, on the blocks of a machine that drifts and is disturbed."""
    found = []
    for repeat in range(repeats):
        limits = interval(simulated_logs(count, seed=repeat).tolist(), seed=repeat)
        assert isinstance(limits, Ratio)
        found.append(limits.lower <= 1 <= limits.upper)
    return float(np.mean(found))


def simulated_logs(count: int, seed: int) -> NDArray[np.float64]:
    """Log-ratios of identical code: 1 % noise of each block, and spikes of a fifth in one of ten blocks."""
    random = np.random.default_rng(seed)
    blocks = random.normal(0, 0.01, (2, count)) + 0.2 * (random.random((2, count)) < 0.1)
    difference: NDArray[np.float64] = blocks[1] - blocks[0]
    return difference


@pytest.mark.parametrize(("count", "least", "most"), [(10, 0.90, 1.0), (20, 0.80, 0.97)])
def test_limits_hold_about_as_often_as_they_say(count: int, least: float, most: float) -> None:
    assert least <= coverage(count, 150) <= most


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "least", "most"), [(10, 0.92, 0.99), (12, 0.84, 0.93), (20, 0.85, 0.93), (40, 0.85, 0.93)]
)
def test_limits_hold_as_often_as_they_say(count: int, least: float, most: float) -> None:
    assert least <= coverage(count, 1_500) <= most


@pytest.mark.parametrize(("true_ratio", "wrong"), [(1.0, "FAIL"), (1.05, "FAIL"), (1.2, "PASS")])
def test_wrong_verdicts_are_rare(true_ratio: float, wrong: Verdict) -> None:
    verdicts = [
        decide(pairs((true_ratio * np.exp(simulated_logs(20, seed))).tolist()), 0.1, seed).verdict
        for seed in range(100)
    ]
    assert verdicts.count(wrong) == 0


@pytest.mark.slow
def test_at_the_margin_itself_both_mistakes_are_as_rare_as_promised() -> None:
    verdicts = [
        decide(pairs((1.1 * np.exp(simulated_logs(20, seed))).tolist()), 0.1, seed).verdict for seed in range(1_500)
    ]
    assert verdicts.count("FAIL") / 1_500 < 0.08
    assert verdicts.count("PASS") / 1_500 < 0.08
