from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from summaries import summary

from rexnet_export.pipeline.core.errors import UsageError
from rexnet_export.quantization.calibration import ranges
from rexnet_export.quantization.calibration.observe import TensorStatistics
from rexnet_export.quantization.calibration.ranges import least_noise, observed_range
from rexnet_export.quantization.calibration.slopes import Slopes
from rexnet_export.quantization.calibration.statistic_names import NAMED, check_statistic
from rexnet_export.quantization.table.params import QuantParams, from_range

BINS = 4096

STATISTICS = ("min-max", "mean-min-max", "percentile", "percentile-99.9", "entropy", "mse")
ordinary = st.floats(-(2.0**20), 2.0**20, width=32)
tensors = arrays.arrays(np.float32, st.tuples(st.integers(1, 3), st.integers(1, 60)), elements=ordinary)


def statistics(values: np.ndarray) -> TensorStatistics:
    return summary(np.reshape(values, (-1, 1000)))


def squared_error_of(values: np.ndarray, low: float, high: float) -> float:
    """Computed on the values themselves."""
    params = from_range(low, high)
    return float(np.square(params.dequantize(params.quantize(values.astype(np.float64))) - values).mean())


def squared_error(found: TensorStatistics, params: QuantParams) -> float:
    """The same in closed form, of the histogram that ranges are chosen by."""
    edges, counts = ranges._coarse(*ranges._histogram(found, found.counts))
    means = ranges._mean_squares(edges, ranges._power, params)
    return float(means @ counts / counts.sum()) * params.scale[0] ** 2


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
        channel_minima=np.array([-BINS], np.float32),
        channel_maxima=np.array([BINS - 0.5], np.float32),
        exponent=0,
        counts=counts,
    )
    assert observed_range(ends, "percentile") == (-float(BINS), BINS - 0.5)


@pytest.mark.parametrize("statistic", ["percentile-50.1", "percentile-100", "percentile-100.0", "percentile", *NAMED])
def test_a_percentile_keeps_more_than_half_of_the_values_and_at_most_all(statistic: str) -> None:
    check_statistic(statistic)


@pytest.mark.parametrize(
    "statistic",
    ["", "Entropy", "percentile-", "percentile-101", "percentile-0.1", "percentile-50", "percentile-100.1", "min-max "],
)
def test_an_unknown_statistic_is_a_usage_error(statistic: str) -> None:
    with pytest.raises(UsageError, match="unknown statistic"):
        observed_range(statistics(NORMAL), statistic)
    with pytest.raises(UsageError, match="unknown statistic"):
        check_statistic(statistic)


def test_auto_is_a_choice_but_no_range() -> None:
    check_statistic("auto")
    with pytest.raises(UsageError, match="unknown statistic 'auto'"):
        observed_range(statistics(NORMAL), "auto")


def test_mean_min_max_is_the_mean_of_the_images_own_extremes() -> None:
    images = np.array([[-1.0, 2.0, 0.0], [-5.0, 3.0, 1.0], [-3.0, 10.0, 4.0]])
    assert observed_range(summary(images), "mean-min-max") == (-3.0, 5.0)
    assert observed_range(summary(images[::-1]), "mean-min-max") == (-3.0, 5.0)


@given(tensors)
def test_every_range_lies_within_the_extremes_widened_to_zero(values: np.ndarray) -> None:
    found = summary(values)
    for statistic in STATISTICS:
        low, high = observed_range(found, statistic)
        assert min(found.minimum, 0.0) <= low <= high <= max(found.maximum, 0.0)


@given(tensors)
def test_mse_is_never_worse_than_the_whole_range(values: np.ndarray) -> None:
    found = summary(values)
    by_mse, whole = (from_range(*observed_range(found, name)) for name in ("mse", "min-max"))
    assert squared_error(found, by_mse) <= squared_error(found, whole)


@pytest.mark.parametrize(("low", "high"), [(-4.9, 4.9), (-1.0, 3.0), (-0.3, 2.0), (0.0, 0.5), (-30.0, 30.0)])
def test_the_squared_error_is_that_of_the_values(low: float, high: float) -> None:
    expected = squared_error_of(NORMAL, low, high)
    found = summary(NORMAL.reshape(250, -1))
    assert squared_error(found, from_range(low, high)) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("shape", ["normal", "laplace", "silu", "relu", "outlier"])
def test_mse_finds_the_best_pair_of_ends(shape: str) -> None:
    normal, laplace = NORMAL[:100_000], np.random.default_rng(1).laplace(size=100_000)
    values = {
        "normal": normal,
        "laplace": laplace,
        "silu": laplace / (1 + np.exp(-laplace)),
        "relu": np.maximum(normal, 0.0),
        "outlier": np.append(normal[1:], 60.0),
    }[shape]
    found = summary(values.reshape(25, -1))
    grid = np.linspace(0.05, 1.0, 12)
    pairs = [(low * found.minimum, high * found.maximum) for low in grid for high in grid]
    chosen = squared_error_of(values, *observed_range(found, "mse"))
    assert chosen <= 1.01 * min(squared_error_of(values, *pair) for pair in pairs)


def test_entropy_cuts_a_far_outlier_and_mse_one_that_costs_more_than_it_is_worth() -> None:
    assert observed_range(statistics(np.append(NORMAL[:99_999], 60.0)), "entropy")[1] < 10.0
    assert observed_range(statistics(np.append(NORMAL[:99_999], 60.0)), "mse")[1] > 40.0
    assert observed_range(statistics(np.append(NORMAL[:-1], 20.0)), "mse")[1] < 10.0


@pytest.mark.parametrize("statistic", ["entropy", "mse"])
def test_an_even_distribution_is_kept_whole(statistic: str) -> None:
    even = statistics(np.random.default_rng(2).uniform(-1.0, 1.0, 200_000))
    assert np.allclose(observed_range(even, statistic), (-1.0, 1.0), atol=0.03)


def test_entropy_of_a_one_sided_tensor_keeps_the_other_end_at_zero() -> None:
    found = statistics(np.maximum(NORMAL, 0.0))
    low, high = observed_range(found, "entropy")
    assert low == 0.0
    assert 2.0 < high <= found.maximum


@pytest.mark.parametrize("value", [0.0, 2.5, -2.5, 1e-30, 3e38])
@pytest.mark.parametrize("statistic", STATISTICS)
def test_a_constant_tensor_keeps_its_value(value: float, statistic: str) -> None:
    low, high = observed_range(summary(np.full((1, 40), value)), statistic)
    assert low <= np.float32(value) <= high


CUBES = 8 * np.linspace(-1, 1.5, 6001) ** 3
ONE_SIDED = np.append(np.maximum(CUBES / 2, 0), 60.0)


@pytest.mark.parametrize(
    ("values", "statistic", "expected"),
    [
        (CUBES, "mse", (-7.90857, 27.0)),
        (CUBES, "entropy", (-8.0, 27.0)),
        (CUBES, "percentile-99", (-7.71094, 26.3359)),
        (ONE_SIDED, "mse", (0.0, 13.7849)),
        (ONE_SIDED, "entropy", (0.0, 13.5977)),
        (ONE_SIDED, "percentile-99", (0.0, 13.1719)),
    ],
)
def test_what_a_search_finds_stays_what_it_is(
    values: np.ndarray, statistic: str, expected: tuple[float, float]
) -> None:
    """The same images give the same table in every version: how finely is searched is no free choice any more."""
    assert observed_range(summary(values[None, None]), statistic) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("bins", "left"), [(1, 1), (2048, 2048), (2049, 1025), (8192, 2048)])
def test_at_most_2048_bins_are_searched(bins: int, left: int) -> None:
    edges, counts = ranges._coarse(np.arange(-5.0, bins - 4), np.ones(bins, np.int64))
    assert (len(counts), len(edges), counts.sum()) == (left, left + 1, bins)
    width = -(-bins // 2048)
    assert (edges[0], edges[-1]) == (-5.0, -5.0 + width * left)
    assert counts[0] == width


@pytest.mark.parametrize(("slope", "expected"), [(0.0, (-1.0, 4095.0)), (1.0, (-1.0, 1000.0))])
def test_a_range_of_least_noise_is_of_the_values_with_slopes(slope: float, expected: tuple[float, float]) -> None:
    """A far value that no logit answers to is left out; where none answers to any, all are kept."""
    found = summary(np.append(np.linspace(-1, 1000, 4000), 4095.0)[None, None])
    by_value = slope * found.counts.astype(np.float64)
    by_value[-1] = 0.0
    chosen = least_noise(found, Slopes(by_channel=np.ones(1), by_value=by_value))
    assert chosen.statistic == "logit-mse"
    assert (chosen.low, chosen.high) == pytest.approx(expected, rel=0.05, abs=1)


def test_every_named_statistic_has_its_arithmetic() -> None:
    assert set(ranges._RANGES) == set(NAMED)


def test_percentile_keeps_an_end_that_many_values_share() -> None:
    most = 127.99  # in the last bin
    values = np.concatenate([np.full(900, most), np.linspace(0, 50, 100)])
    assert observed_range(statistics(values), "percentile-90") == pytest.approx((25, most), abs=1)
