"""The score limit of a drop against published and recomputed values, and SQNR."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rexnet_export.pipeline.accuracy.paired_statistics import (
    drop_lower_limit,
    drop_upper_limit,
    holm,
    margin_p,
    mcnemar_p,
    no_discordance_limit,
    ratio_limits,
    share_limits,
    sqnr_db,
    upper_limit,
)

COUNTS = st.integers(0, 40)
IMAGES = st.integers(81, 2000)


@pytest.mark.parametrize(
    ("worse", "better", "images", "confidence", "expected"),
    [
        pytest.param(12, 2, 50, 0.975, 0.3447, id="Tango 1998"),
        pytest.param(2, 12, 50, 0.975, -0.0611, id="the same, sides changed"),
        pytest.param(0, 0, 30, 0.975, 0.1135, id="no difference"),
        pytest.param(300, 220, 10_000, 0.95, 0.0118, id="one-sided"),
        pytest.param(180, 110, 10_000, 0.95, 0.00984, id="one-sided, few"),
        pytest.param(0, 0, 299, 0.95, 0.00897, id="no difference, one-sided"),
        pytest.param(0, 0, 598, 0.95, 0.00450, id="no difference, more images"),
    ],
)
def test_known_limits(worse: int, better: int, images: int, confidence: float, expected: float) -> None:
    assert drop_upper_limit(worse, better, images, confidence) == pytest.approx(expected, abs=6e-5)


def test_everything_worse() -> None:
    assert drop_upper_limit(20, 0, 20) == 1.0


@given(st.integers(0, 40), st.integers(0, 40), st.integers(81, 2000))
def test_limit_is_above_the_observed_drop_and_grows_with_it(worse: int, better: int, images: int) -> None:
    limit = drop_upper_limit(worse, better, images)
    assert (worse - better) / images < limit < 1
    assert drop_upper_limit(worse + 1, better, images) > limit
    assert drop_upper_limit(worse, better, 4 * images) < limit or worse <= better


def test_sqnr_of_known_noise() -> None:
    signal = np.full(1000, 10.0)
    assert sqnr_db(signal, signal + 1) == pytest.approx(20.0)
    assert sqnr_db(signal, signal) == math.inf
    assert sqnr_db(np.zeros(4), np.ones(4)) == -math.inf


@pytest.mark.parametrize(
    ("worse", "better", "images", "expected"),
    [
        pytest.param(12, 2, 50, 0.0611, id="Tango 1998"),
        pytest.param(2, 12, 50, -0.3447, id="the same, sides changed"),
        pytest.param(0, 0, 30, -0.1135, id="no difference"),
    ],
)
def test_known_lower_limits(worse: int, better: int, images: int, expected: float) -> None:
    assert drop_lower_limit(worse, better, images, 0.975) == pytest.approx(expected, abs=6e-5)


@pytest.mark.parametrize(
    ("worse", "better", "expected"),
    [(300, 220, 0.00026), (180, 110, 2.3e-5), (0, 0, 1.0), (0, 5, 1.0), (5, 0, 1 / 32), (1, 1, 0.75)],
)
def test_known_mcnemar(worse: int, better: int, expected: float) -> None:
    assert mcnemar_p(worse, better) == pytest.approx(expected, rel=0.03)


def test_mcnemar_agrees_with_the_published_two_sided_value() -> None:
    assert 2 * mcnemar_p(300, 220) == pytest.approx(0.00052, abs=5e-6)


@pytest.mark.parametrize(("images", "expected"), [(299, 0.00997), (598, 0.004997), (1, 0.95)])
def test_known_limits_without_discordance(images: int, expected: float) -> None:
    assert no_discordance_limit(images) == pytest.approx(expected, rel=1e-3)
    assert no_discordance_limit(images) > drop_upper_limit(0, 0, images) or images == 1


@given(COUNTS, COUNTS, IMAGES)
def test_limits_change_sign_with_the_sides(worse: int, better: int, images: int) -> None:
    assert drop_lower_limit(worse, better, images) == pytest.approx(-drop_upper_limit(better, worse, images))
    assert drop_lower_limit(worse, better, images) < (worse - better) / images < drop_upper_limit(worse, better, images)


@given(COUNTS, COUNTS, IMAGES)
def test_both_limits_grow_with_what_got_worse_and_fall_with_what_got_better(
    worse: int, better: int, images: int
) -> None:
    for limit in (drop_lower_limit, drop_upper_limit):
        assert limit(worse + 1, better, images) > limit(worse, better, images)
        assert limit(worse, better + 1, images) < limit(worse, better, images)


@given(COUNTS, COUNTS)
def test_p_falls_with_what_got_worse_and_grows_with_what_got_better(worse: int, better: int) -> None:
    assert 0 < mcnemar_p(worse + 1, better) <= mcnemar_p(worse, better) <= mcnemar_p(worse, better + 1) <= 1


@given(COUNTS, COUNTS)
def test_p_changes_sides_with_the_sides(worse: int, better: int) -> None:
    """P(X >= b) + P(X >= c) counts P(X = b) twice, since X and b + c - X are alike."""
    both = math.comb(worse + better, worse) / 2 ** (worse + better)
    assert mcnemar_p(worse, better) + mcnemar_p(better, worse) == pytest.approx(1 + both)


@given(st.integers(0, 20), st.integers(0, 20), st.integers(41, 200))
def test_limits_close_in_on_the_drop_as_images_grow(worse: int, better: int, images: int) -> None:
    drop, previous = (worse - better) / images, math.inf
    for times in (1, 10, 100, 10_000):
        low = drop_lower_limit(worse * times, better * times, images * times)
        high = drop_upper_limit(worse * times, better * times, images * times)
        assert low - 1e-9 <= drop <= high + 1e-9
        assert high - low < previous
        previous = high - low
    assert previous < 0.01


@given(st.integers(0, 60), st.integers(0, 60), st.integers(200, 5000), st.sampled_from([0.002, 0.005, 0.02, 0.1]))
def test_p_of_a_margin_is_small_exactly_where_the_limit_is_below_it(
    worse: int, better: int, images: int, margin: float
) -> None:
    limit = upper_limit(worse, better, images)
    if abs(limit - margin) > 1e-9:
        assert (margin_p(worse, better, images, margin) < 0.05) == (limit < margin)


@pytest.mark.parametrize(
    ("worse", "better", "images", "margin", "expected"),
    [(0, 0, 100, 0.01, 0.99**100), (100, 0, 100, 0.01, 1.0), (10, 0, 1000, 0.01, 0.5)],
)
def test_known_p_of_a_margin(worse: int, better: int, images: int, margin: float, expected: float) -> None:
    assert margin_p(worse, better, images, margin) == pytest.approx(expected)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_lies_between_no_correction_and_bonferroni(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    for p, corrected in zip(p_values, adjusted, strict=True):
        assert p <= corrected <= 1
        assert min(adjusted) == pytest.approx(min(1.0, min(p_values) * len(p_values)))
    assert [q for _, q in sorted(zip(p_values, adjusted, strict=True))] == sorted(adjusted)


def test_ratio_of_a_better_candidate_is_passed_and_of_a_ruined_one_is_not() -> None:
    low, high = ratio_limits((800, 0, 50, 150), 0.99)
    assert 0 < low < 0.058 < high  # mean: (850 - 0.99 * 800) / 1000
    low, high = ratio_limits((700, 100, 0, 200), 0.99)
    assert low < -0.092 < high < 0


def test_ratio_limits_are_those_of_the_paired_bootstrap_over_images() -> None:
    counts = (780, 30, 20, 170)
    gain = np.repeat([0.01, -0.99, 1.0, 0.0], counts)
    drawn = np.random.default_rng(7).choice(gain, (4000, len(gain))).mean(1)
    assert ratio_limits(counts, 0.99) == pytest.approx(tuple(np.quantile(drawn, [0.05, 0.95])), abs=1e-3)


def test_ratio_limits_repeat() -> None:
    assert ratio_limits((780, 30, 20, 170), 0.99) == ratio_limits((780, 30, 20, 170), 0.99)
    assert ratio_limits((780, 30, 20, 170), 0.99, seed=1) != ratio_limits((780, 30, 20, 170), 0.99)


def drawn_counts(images: int, discordance: float, drop: float, tries: int, seed: int) -> list[tuple[int, int]]:
    shares = [(discordance + drop) / 2, (discordance - drop) / 2, 1 - discordance]
    return [(int(b), int(c)) for b, c, _ in np.random.default_rng(seed).multinomial(images, shares, size=tries)]


def share_proven(images: int, discordance: float, drop: float, margin: float, tries: int) -> float:
    counts = drawn_counts(images, discordance, drop, tries, seed=images)
    return float(np.mean([drop_upper_limit(b, c, images) < margin for b, c in counts]))


def share_alarmed(images: int, discordance: float, tries: int) -> float:
    return float(np.mean([mcnemar_p(b, c) < 0.05 for b, c in drawn_counts(images, discordance, 0.0, tries, seed=1)]))


# Bounds are five standard errors of the simulation around what the tests promise.
@pytest.mark.parametrize(("tries"), [400, pytest.param(20_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("images", "discordance", "margin"), [(1000, 0.05, 0.01), (5000, 0.05, 0.01), (5000, 0.03, 0.005)]
)
def test_false_passes_and_false_alarms_are_as_rare_as_promised(
    images: int, discordance: float, margin: float, tries: int
) -> None:
    error = 5 * math.sqrt(0.05 * 0.95 / tries)
    assert 0.03 - error < share_proven(images, discordance, margin, margin, tries) < 0.055 + error
    assert 0.02 - error < share_alarmed(images, discordance, tries) < 0.05 + error


@pytest.mark.slow
@pytest.mark.parametrize(
    ("images", "drop", "share"),
    [(5000, 0.0, 0.94), (5000, 0.005, 0.49), (1000, 0.0, 0.43), (1000, 0.005, 0.18), (1000, 0.01, 0.045)],
)
def test_shares_that_pass(images: int, drop: float, share: float) -> None:
    assert share_proven(images, 0.05, drop, 0.01, 8000) == pytest.approx(share, abs=0.045)


@pytest.mark.parametrize(
    ("right", "images", "expected"),
    [(0, 10, (0.0, 0.2775)), (5, 10, (0.2366, 0.7634)), (10, 10, (0.7225, 1.0)), (9346, 10_000, (0.9296, 0.9393))],
)
def test_known_limits_of_a_share(right: int, images: int, expected: tuple[float, float]) -> None:
    """Wilson's interval as statistics packages give it."""
    assert share_limits(right, images) == pytest.approx(expected, abs=1e-4)
