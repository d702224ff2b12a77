"""The score limit of a drop against published and recomputed values, and SQNR."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rexnet_export.pipeline.statistics import drop_upper_limit, sqnr_db


@pytest.mark.parametrize(
    ("worse", "better", "images", "confidence", "expected"),
    [
        pytest.param(12, 2, 50, 0.975, 0.3447, id="Tango 1998"),
        pytest.param(2, 12, 50, 0.975, -0.0611, id="the same, sides changed"),
        pytest.param(0, 0, 30, 0.975, 0.1135, id="no difference"),
        pytest.param(300, 220, 10_000, 0.95, 0.0118, id="one-sided"),
        pytest.param(180, 110, 10_000, 0.95, 0.00984, id="one-sided, few"),
        pytest.param(0, 0, 299, 0.95, 0.00897, id="no difference, one-sided"),
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
