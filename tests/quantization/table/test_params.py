from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from rexnet_export.quantization.table.params import (
    QuantParams,
    for_bias,
    for_weights,
    from_range,
    half_precision_ceiling,
    half_precision_floor,
    smallest_weight_scale,
    up_to,
)

BIAS_MAX = 2**30

HALF_MAX = 65504.0
ends = st.floats(-1e4, 1e4, width=32)
ranges = st.tuples(ends, ends).map(sorted)
half_range = st.floats(2.0**-24, HALF_MAX)
weights = arrays.arrays(
    np.float32, st.tuples(st.integers(1, 5), st.integers(1, 9)), elements=st.floats(-100, 100, width=32)
)


@given(half_range)
def test_ceiling_is_the_nearest_float16_above(scale: float) -> None:
    ceiling = half_precision_ceiling(np.asarray(scale)).item()
    assert ceiling >= scale
    assert float(np.float16(ceiling)) == ceiling
    assert float(np.nextafter(np.float16(ceiling), np.float16(0))) < scale


@given(half_range)
def test_floor_is_the_nearest_float16_below(scale: float) -> None:
    floor = half_precision_floor(np.asarray(scale)).item()
    assert floor <= scale
    assert float(np.float16(floor)) == floor
    assert floor == HALF_MAX or float(np.nextafter(np.float16(floor), np.float16(np.inf))) > scale


@pytest.mark.parametrize("exact", [2.0**-24, 0.25, 1.0, 65504.0])
def test_a_float16_is_its_own_ceiling_and_floor(exact: float) -> None:
    assert half_precision_ceiling(np.asarray(exact)) == half_precision_floor(np.asarray(exact)) == exact


def test_ceiling_never_reaches_zero_and_says_when_float16_is_too_small() -> None:
    assert half_precision_ceiling(np.asarray([1e-30, 1e30])).tolist() == [2.0**-24, np.inf]


@given(ranges)
def test_a_range_is_covered_to_half_a_step_and_holds_zero(ends: list[float]) -> None:
    low, high = ends
    params = from_range(low, high)
    scale, zero_point = params.scale[0], params.zero_point[0]
    reached = params.dequantize(np.asarray([-128, 127]))
    assert -128 <= zero_point <= 127
    assert reached[0] <= min(low, 0.0) + scale / 2
    assert reached[1] >= max(high, 0.0) - scale / 2
    assert params.dequantize(np.asarray([zero_point])) == 0.0
    assert params.quantize(np.zeros(1)) == zero_point


@given(ranges, st.floats(0, 1))
def test_inside_the_range_the_error_is_at_most_half_a_step(ends: list[float], position: float) -> None:
    low, high = min(ends[0], 0.0), max(ends[1], 0.0)
    params = from_range(low, high)
    real = np.asarray([low + position * (high - low)])
    error = np.abs(params.dequantize(params.quantize(real)) - real)
    assert error <= params.scale[0] / 2 * (1 + 1e-9)


@given(ranges)
def test_the_whole_grid_is_exact_in_float32(ends: list[float]) -> None:
    params = from_range(*ends)
    steps = np.arange(-128, 128) - params.zero_point[0]
    assert (
        (steps.astype(np.float32) * np.float32(params.scale[0])).astype(np.float64) == steps * params.scale[0]
    ).all()


def test_a_relu_output_that_never_fires_still_starts_at_the_lowest_integer() -> None:
    # Runtimes drop a ReLU before QuantizeLinear only when zero is the lowest integer.
    assert from_range(0.0, 0.0) == QuantParams(scale=(1.0,), zero_point=(-128,))


def test_halves_round_to_even_and_the_ends_saturate() -> None:
    params = QuantParams(scale=(1.0,), zero_point=(0,))
    values = np.asarray([-0.5, 0.5, 1.5, 2.5, -1.5, 126.5, 1000.0, -1000.0])
    assert params.quantize(values).tolist() == [0, 0, 2, 2, -2, 126, 127, -128]


def test_the_second_nearest_lies_across_the_real_number_and_below_where_that_is_on_the_grid() -> None:
    params = QuantParams(scale=(0.5,), zero_point=(0,))
    integers = np.asarray([0.6, 0.4, -0.4, -0.6, 0.0, 3.0, -3.0, 126.4, 126.6, 127.0, 127.4, -126.6, -127.0, -127.4])
    expected = [0, 1, -1, 0, -1, 2, -4, 127, 126, 126, 127, -126, -127, -127]
    assert params.second_nearest(integers / 2).tolist() == expected


def test_rounding_to_the_grid_is_quantizing_and_back() -> None:
    params = QuantParams(scale=(0.25,), zero_point=(3,))
    real = np.asarray([-100.0, -32.8, -1.1, 0.0, 0.1, 0.3, 31.0, 1000.0], np.float32)
    expected = [-32.75, -32.75, -1.0, 0.0, 0.0, 0.25, 31.0, 31.0]
    assert params.rounded(real).tolist() == params.dequantize(params.quantize(real)).tolist() == expected


def test_relu6_takes_the_float16_that_never_passes_six() -> None:
    params = up_to(6.0)
    assert params == QuantParams(scale=(float(np.float16(6 / 255)),), zero_point=(-128,))
    assert 6.0 - params.scale[0] < params.dequantize(np.asarray([127]))[0] <= 6.0


@given(weights)
def test_weights_stay_within_127_and_err_by_half_a_step(values: np.ndarray) -> None:
    params = for_weights(values)
    integers = params.quantize(values)
    scale = np.asarray(params.scale)[:, None]
    assert np.abs(integers).max() <= 127
    assert params.zero_point == (0,) * len(values)
    assert (np.abs(params.dequantize(integers) - values) <= scale / 2 * (1 + 1e-9)).all()
    assert (np.float16(scale).astype(np.float64) == scale).all()


def test_each_output_channel_of_weights_has_its_own_scale() -> None:
    values = np.asarray([[1.27, 0.0], [0.0, -12.7], [0.0, 0.0]], np.float32)
    scale = for_weights(values).scale
    assert np.allclose(scale, [0.01, 0.1, 1.0], rtol=1e-3)


@given(
    st.floats(2.0**-20, 1e3),
    arrays.arrays(np.float32, 3, elements=st.floats(-50, 50, width=32)),
    st.floats(0, 1, width=32),
    ranges,
    ranges,
)
def test_a_bias_fits_int32_whatever_the_weights(
    size: float, bias: np.ndarray, shrink: float, incoming: list[float], outgoing: list[float]
) -> None:
    inputs, outputs = from_range(*incoming), from_range(*outgoing)
    values = np.full((3, 4), size * shrink**8, np.float32)
    params = for_weights(values, smallest=smallest_weight_scale(bias, inputs, outputs))
    derived = for_bias(inputs, params)
    integers = derived.quantize(bias)
    assert np.abs(integers).max() <= BIAS_MAX * (1 + 1e-6)
    step = np.asarray(derived.scale)
    assert (np.abs(derived.dequantize(integers) - bias) <= step / 2 * (1 + 1e-6)).all()
    multiplier = step / outputs.scale[0]
    assert (multiplier >= 2.0**-24 * (1 - 1e-6)).all()


def test_bias_scales_are_exact_products_in_float32() -> None:
    inputs = from_range(-1.0, 2.0)
    params = for_weights(np.random.default_rng(0).normal(size=(50, 9)).astype(np.float32))
    derived = for_bias(inputs, params)
    assert derived.scale == tuple(inputs.scale[0] * scale for scale in params.scale)
    assert (derived.bits, derived.axis) == (32, 0)
