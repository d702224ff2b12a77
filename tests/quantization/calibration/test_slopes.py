from __future__ import annotations

import numpy as np
import pytest
from summaries import summary

from rexnet_export.quantization.calibration import slopes
from rexnet_export.quantization.calibration.observe import TensorStatistics, bins_of
from rexnet_export.quantization.calibration.slopes import none, summed

BINS = 4096

SHAPE = (3, 5, 4, 4)


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(0).normal(0.0, 3.0, SHAPE).astype(np.float32)


@pytest.fixture
def statistics(values: np.ndarray) -> TensorStatistics:
    return summary(values)


def test_slopes_are_summed_where_the_values_are(values: np.ndarray, statistics: TensorStatistics) -> None:
    squared = np.random.default_rng(1).random(SHAPE).astype(np.float32)
    found = summed(values, squared, statistics, None)
    np.testing.assert_allclose(found.by_channel, squared.sum((0, 2, 3), dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(found.by_value.sum(), squared.sum(dtype=np.float64), rtol=1e-6)
    assert found.by_value.shape == (2 * BINS,)
    above = found.by_value[BINS + int(2.0 * 2.0**-statistics.exponent) :].sum()
    np.testing.assert_allclose(above, squared[values >= 2.0].sum(dtype=np.float64), rtol=1e-6)


def test_beyond_what_is_useful_the_end_counts(values: np.ndarray, statistics: TensorStatistics) -> None:
    found = summed(values, np.ones(SHAPE, np.float32), statistics, (-1.0, 1.0))
    width = 2.0**-statistics.exponent
    assert found.by_value[: BINS - int(width)].sum() == 0
    assert found.by_value[BINS - int(width)] >= (values <= -1.0).sum()


@pytest.mark.parametrize("size", [1, 7, 239, 240, 241])
def test_values_are_looked_up_in_parts_and_every_sum_has_its_order(
    size: int, values: np.ndarray, statistics: TensorStatistics, monkeypatch: pytest.MonkeyPatch
) -> None:
    squared = np.random.default_rng(1).random(SHAPE).astype(np.float32)
    whole = np.bincount(bins_of(values.ravel(), statistics.exponent), squared.ravel(), 2 * BINS)
    monkeypatch.setattr(slopes, "AT_ONCE", size)
    assert summed(values, squared, statistics, None).by_value.tobytes() == whole.tobytes()


def test_nothing_is_added_by_what_answers_to_nothing(values: np.ndarray, statistics: TensorStatistics) -> None:
    found = summed(values, np.ones(SHAPE, np.float32), statistics, None)
    added = none(statistics) + found
    assert added.by_value.tobytes() == found.by_value.tobytes()
    assert added.by_channel.tobytes() == found.by_channel.tobytes()


def test_slopes_of_more_images_add_up(values: np.ndarray, statistics: TensorStatistics) -> None:
    ones = np.ones(SHAPE, np.float32)
    parts = [summed(values[part], ones[part], statistics, None) for part in (slice(0, 1), slice(1, 3))]
    whole, added = summed(values, ones, statistics, None), parts[0] + parts[1]
    np.testing.assert_array_equal(added.by_value, whole.by_value)
    np.testing.assert_array_equal(added.by_channel, whole.by_channel)


def test_slopes_at_a_dead_tensor_are_those_at_zero() -> None:
    dead, ones = np.zeros(SHAPE, np.float32), np.ones(SHAPE, np.float32)
    statistics = summary(dead)
    assert np.flatnonzero(summed(dead, ones, statistics, None).by_value).tolist() == [BINS]
    alive = summed(dead + np.float32(1.0), ones, statistics, None)
    assert np.flatnonzero(alive.by_value).tolist() == [2 * BINS - 1]
