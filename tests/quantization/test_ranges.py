from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from rexnet_export.pipeline.errors import UsageError
from rexnet_export.quantization import observe
from rexnet_export.quantization.observe import BINS, TensorStatistics
from rexnet_export.quantization.ranges import check_statistic, observed_range


def statistics(values: np.ndarray) -> TensorStatistics:
    rows = np.asarray(values, np.float32).reshape(-1, 1000)
    return observe._summarise("t", rows, 0)


NORMAL = np.random.default_rng(0).normal(size=1_000_000)


def test_min_max_is_the_whole_range() -> None:
    assert observed_range(statistics([*range(999), -5]), "min-max") == (-5.0, 998.0)


@pytest.mark.parametrize(("statistic", "percent"), [("percentile", 99.99), ("percentile-99", 99.0)])
def test_percentile_drops_its_share_at_each_end(statistic: str, percent: float) -> None:
    found = statistics(NORMAL)
    low, high = observed_range(found, statistic)
    beyond = (100 - percent) / 2
    expected = np.percentile(NORMAL, [beyond, 100 - beyond])
    assert np.allclose([low, high], expected, atol=2 * 2.0**found.exponent + 0.02)
    assert ((low <= NORMAL) & (high >= NORMAL)).mean() >= percent / 100


def test_percentile_ignores_a_lone_outlier_but_min_max_does_not() -> None:
    values = np.concatenate([NORMAL[:99_999], [400.0]])
    assert observed_range(statistics(values), "min-max")[1] == 400.0
    assert observed_range(statistics(values), "percentile")[1] < 6.0


def test_percentile_never_reaches_beyond_what_occurred() -> None:
    found = statistics(np.linspace(0.3, 0.7, 1000))
    assert observed_range(found, "percentile-100") == (found.minimum, found.maximum)
    low, high = observed_range(found, "percentile-60")
    assert 0.3 < low < 0.4
    assert 0.6 < high < 0.7


def test_a_constant_tensor_has_a_point_as_range() -> None:
    found = statistics(np.full(1000, 2.5))
    assert observed_range(found, "percentile") == (2.5, 2.5)


def test_bins_count_from_the_most_negative() -> None:
    counts = np.zeros(2 * BINS, np.int64)
    counts[0], counts[-1] = 100, 100
    ends = TensorStatistics(
        images=1,
        minimum=-float(BINS),
        maximum=BINS - 0.5,
        sum_of_minima=Fraction(0),
        sum_of_maxima=Fraction(0),
        exponent=0,
        counts=counts,
    )
    assert observed_range(ends, "percentile") == (-float(BINS), BINS - 0.5)


@pytest.mark.parametrize("statistic", ["", "entropy", "percentile-", "percentile-101", "percentile-0.1", "min-max "])
def test_an_unknown_statistic_is_a_usage_error(statistic: str) -> None:
    with pytest.raises(UsageError, match="unknown statistic"):
        observed_range(statistics(NORMAL), statistic)
    with pytest.raises(UsageError, match="unknown statistic"):
        check_statistic(statistic)
