"""The sample-size tables of the accuracy gate, number by number."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.special import ndtr

from rexnet_export.apps.gate.accuracy.sample_size import (
    images_to_detect,
    images_to_prove,
    images_without_discordance,
    provable_margin,
    require_margin,
    smallest_detectable,
)
from rexnet_export.pipeline.accuracy.paired_statistics import mcnemar_p, no_discordance_limit
from rexnet_export.pipeline.core.errors import UsageError

# (discordance, drop) in points: images at 80, 90 and 95 % power
TO_DETECT = {
    (1, 0.25): (9_890, 13_699, 17_311),
    (1, 0.5): (2_471, 3_422, 4_324),
    (2, 0.25): (19_783, 27_401, 34_626),
    (2, 0.5): (4_944, 6_848, 8_653),
    (2, 1): (1_235, 1_710, 2_160),
    (3, 0.25): (29_675, 41_103, 51_942),
    (3, 0.5): (7_417, 10_273, 12_982),
    (3, 1): (1_853, 2_566, 3_242),
    (3, 2): (462, 639, 807),
    (5, 0.25): (49_459, 68_508, 86_572),
    (5, 0.5): (12_364, 17_124, 21_639),
    (5, 1): (3_090, 4_279, 5_406),
    (5, 2): (771, 1_067, 1_348),
    (8, 0.25): (79_135, 109_614, 138_519),
    (8, 0.5): (19_783, 27_401, 34_626),
    (8, 1): (4_944, 6_848, 8_653),
    (8, 2): (1_235, 1_710, 2_160),
}
# images: smallest drop in points at a discordance of 1, 2, 3, 5 and 8 %
DETECTABLE = {
    500: (None, 1.57, 1.92, 2.48, 3.14),
    1_000: (0.79, 1.11, 1.36, 1.76, 2.22),
    2_000: (0.56, 0.79, 0.96, 1.24, 1.57),
    5_000: (0.35, 0.50, 0.61, 0.79, 0.99),
    10_000: (0.25, 0.35, 0.43, 0.56, 0.70),
    50_000: (0.11, 0.16, 0.19, 0.25, 0.31),
}
FRACTIONS = st.floats(0.005, 0.2)


@pytest.mark.parametrize(("rates", "expected"), TO_DETECT.items())
def test_images_to_detect(rates: tuple[float, float], expected: tuple[int, ...]) -> None:
    discordance, drop = rates
    assert [images_to_detect(discordance / 100, drop / 100, power) for power in (0.8, 0.9, 0.95)] == list(expected)


@pytest.mark.parametrize(("images", "expected"), DETECTABLE.items())
def test_smallest_detectable(images: int, expected: tuple[float | None, ...]) -> None:
    for discordance, points in zip((0.01, 0.02, 0.03, 0.05, 0.08), expected, strict=True):
        found = smallest_detectable(discordance, images)
        assert (found is None) == (points is None)
        assert found is None or points is None or 100 * found == pytest.approx(points, abs=0.005)


@pytest.mark.parametrize(("discordance", "none", "half"), [(0.03, 1_855, 7_413), (0.05, 3_092, 12_359)])
def test_images_to_prove(discordance: float, none: int, half: int) -> None:
    assert images_to_prove(discordance, 0.01) == none
    assert images_to_prove(discordance, 0.01, 0.005) == half


def test_images_to_prove_at_other_powers() -> None:
    """(1.645 + z of the power)^2 * 0.03 / 0.01^2, where z is 0, 1.282 and 1.645."""
    assert [images_to_prove(0.03, 0.01, power=power) for power in (0.5, 0.9, 0.95)] == [812, 2_570, 3_247]


@pytest.mark.parametrize(("margin", "expected"), [(0.01, 299), (0.005, 598)])
def test_images_without_discordance(margin: float, expected: int) -> None:
    assert images_without_discordance(margin) == expected
    assert no_discordance_limit(expected) < margin < no_discordance_limit(expected - 1)


@given(FRACTIONS, FRACTIONS)
def test_a_larger_drop_or_more_agreement_needs_fewer_images(discordance: float, drop: float) -> None:
    assume(2 * drop < discordance)
    assert images_to_detect(discordance, 2 * drop) < images_to_detect(discordance, drop)
    assert images_to_detect(discordance, drop) < images_to_detect(2 * discordance, drop)
    assert images_to_prove(discordance, drop) < images_to_prove(2 * discordance, drop)


@given(FRACTIONS, st.integers(500, 100_000))
def test_what_is_detectable_needs_these_images(discordance: float, images: int) -> None:
    found = smallest_detectable(discordance, images)
    if found is None:
        assert images_to_detect(discordance, discordance) > images
    else:
        assert images_to_detect(discordance, found) == pytest.approx(images, rel=1e-3, abs=1)


@given(FRACTIONS, st.integers(500, 100_000))
def test_the_provable_margin_needs_these_images(discordance: float, images: int) -> None:
    margin = provable_margin(discordance, images)
    assert images_to_prove(discordance, margin) == pytest.approx(images, abs=1)
    assert images_without_discordance(margin) <= images + 1


def test_the_test_finds_the_drop_as_often_as_planned() -> None:
    discordance, drop = 0.05, 0.01
    images = images_to_detect(discordance, drop)
    shares = [(discordance + drop) / 2, (discordance - drop) / 2, 1 - discordance]
    counts = np.random.default_rng(0).multinomial(images, shares, size=1000)
    found = np.mean([mcnemar_p(int(b), int(c)) < 0.05 for b, c, _ in counts])
    assert found == pytest.approx(0.8, abs=5 * math.sqrt(0.16 / 1000))


@pytest.mark.parametrize("margin", [1.0, 1.5, 0.0, -0.01])
def test_a_margin_under_which_all_or_nothing_passes_is_refused(margin: float) -> None:
    with pytest.raises(UsageError, match=f"^margin {100 * margin:g}: must be points between"):
        require_margin(margin)


@pytest.mark.parametrize("margin", [0.999, 1e-6])
def test_the_largest_and_the_smallest_margin_are_some(margin: float) -> None:
    require_margin(margin)


def test_a_margin_just_below_the_smallest_is_refused() -> None:
    with pytest.raises(UsageError, match=r"must be points between 0\.0001 and 100, such as 0\.5"):
        require_margin(0.99e-6)


@pytest.mark.parametrize(("images", "margin"), [(299, 0.00997), (2, 0.7764)])
def test_without_any_difference_the_provable_margin_is_the_exact_limit(images: int, margin: float) -> None:
    assert provable_margin(0.0, images) == pytest.approx(margin, abs=5e-5)
    assert provable_margin(0.0, images, alpha=0.1) == pytest.approx(1 - 0.1 ** (1 / images))


@pytest.mark.parametrize(("images", "found"), [(3, 1.0), (2, None)])
def test_images_that_find_the_whole_discordance_alone_find_it(images: int, found: float | None) -> None:
    """Where all images differ, and all for the worse, z is the root of their number: here that of 3."""
    alpha = 1 - float(ndtr(math.sqrt(3) - 1e-12))
    assert smallest_detectable(1.0, images, alpha=alpha) == (found if found is None else pytest.approx(found))
