"""Cutting channels where it removes the most noise: cuts are the best there are, and the prediction is the noise."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import combinations
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rexnet_export.quantization.rewrites.group_channels import group_channels
from rexnet_export.quantization.rewrites.rewrite import apply
from rexnet_export.quantization.search.channel_groups import Layer, best_cut, candidates, layers

ELEMENT = 10.0
EMPTY = 2.0
LANES = 16
OPERATOR = 100_000.0
REFERENCE_SIZE = 224
STEPS = 255  # in a range of INT8

spreads = st.lists(st.floats(0.01, 100.0), min_size=9, max_size=9)


def layer(*ranges: list[float], slopes: list[float] | None = None) -> Layer:
    highs = np.array(ranges)
    return Layer(
        operators=4,
        joins=1,
        read=100,
        products=1e5,
        network=1e8,
        tensor="t",
        cut=tuple(f"t{index}" for index in range(len(highs))),
        lows=-highs / 2,
        highs=highs / 2,
        slopes=np.array([slopes or [1.0] * highs.shape[1]] * len(highs)),
    )


def noise(found: Layer, groups: list[NDArray[np.int64]]) -> float:
    """F of the module's docstring, literally."""
    total = 0.0
    for lows, highs, slopes in zip(found.lows, found.highs, found.slopes, strict=True):
        for group in groups:
            total += ((highs[group].max() - lows[group].min()) / STEPS) ** 2 / 12 * slopes[group].sum()
    return total


@given(ranges=spreads, slopes=spreads, count=st.integers(2, 4))
def test_no_cut_of_ordered_channels_is_better(ranges: list[float], slopes: list[float], count: int) -> None:
    found = layer(ranges, slopes=slopes)
    candidate = best_cut(found, count, multiple=1)
    assert candidate
    order = np.argsort(ranges, kind="stable")
    every = [noise(found, np.split(order, cuts)) for cuts in combinations(range(1, len(ranges)), count - 1)]
    np.testing.assert_allclose(candidate.noise, min(every))
    assert len(candidate.rewrite.sizes) == count


@given(first=spreads, second=spreads)
def test_what_is_predicted_is_the_noise_of_the_cut(first: list[float], second: list[float]) -> None:
    found = layer(first, second)
    candidate = best_cut(found, 3, multiple=2)
    assert candidate
    order, sizes = np.array(candidate.rewrite.order), candidate.rewrite.sizes
    groups = np.split(order, np.cumsum(sizes)[:-1])
    np.testing.assert_allclose(candidate.noise, noise(found, groups))
    np.testing.assert_allclose(found.noise, noise(found, [order]))
    assert [size % 2 for size in sizes[:-1]] == [0, 0]


def test_layers_are_cut_into_two_to_four_groups_of_full_or_half_lanes() -> None:
    rng = np.random.default_rng(0)
    found = candidates(layer(np.exp(rng.normal(size=200)).tolist()))
    assert {len(each.rewrite.sizes) for each in found} == {2, 3, 4}
    assert all(size % 8 == 0 for each in found for size in each.rewrite.sizes[:-1])
    assert {all(size % 16 == 0 for size in each.rewrite.sizes[:-1]) for each in found} == {True, False}


@pytest.mark.parametrize("low", [0.5, -0.5])
def test_ranges_are_widened_to_zero(low: float) -> None:
    found = replace(layer([1.0, 1.0]), lows=np.array([[low, low]]), highs=np.array([[1.5, 2.5]]))
    assert found.ranges.tolist() == [[1.5 - min(low, 0), 2.5 - min(low, 0)]]
    assert found.noise == pytest.approx(2 * ((2.5 - min(low, 0)) / STEPS) ** 2 / 12)
    below = replace(found, lows=np.array([[-2.0, -3.0]]), highs=np.array([[-1.0, -1.5]]))
    assert below.ranges.tolist() == [[2.0, 3.0]]
    assert below.noise == pytest.approx(2 * (3.0 / STEPS) ** 2 / 12)


def test_too_few_channels_are_not_cut() -> None:
    assert best_cut(layer([1.0, 2.0, 3.0]), 2, multiple=8) is None
    assert best_cut(layer([1.0] * 23), 3, multiple=8) is None
    assert best_cut(layer([1.0] * 24), 3, multiple=8)


def test_dead_channels_do_no_harm() -> None:
    found = best_cut(layer([0.0, 0.0, 0.0, 1.0]), 2, multiple=1)
    assert found
    assert np.isfinite(found.noise)
    assert best_cut(layer([0.0] * 4), 2, multiple=1)


def test_every_layer_before_silu_can_be_cut(v1: SimpleNamespace, r: SimpleNamespace, lite: SimpleNamespace) -> None:
    found = layers_of(v1)
    expanding = [node.name for node in v1.model.graph.node if node.name.endswith(".expand")]
    assert list(found) == ["stem", *expanding, "penultimate"]
    cuts = [cut.rewrite for each in found.values() for cut in candidates(each, counts=(3,), multiples=(8,))]
    assert cuts
    assert apply(v1.model, cuts)
    assert "penultimate" in layers_of(r)
    assert layers_of(lite) == {}


def layers_of(case: SimpleNamespace) -> dict[str, Layer]:
    return {found.tensor: found for found in layers(case.model, case.statistics, case.slopes)}


def test_the_tensors_with_scales_of_their_own_decide(v1: SimpleNamespace) -> None:
    gated, plain = (layers_of(v1)[name] for name in ("features.3.expand", "features.1.expand"))
    wanted = ("expand", "expand.silu", "depthwise", "excite")  # and neither the pooled nor the gated tensor
    assert set(gated.cut) == {f"features.3.{name}" for name in wanted}
    assert len(plain.cut) == 2, "without a gate ReLU6 takes up the depthwise output"
    for name, highs, slopes in zip(gated.cut, gated.highs, gated.slopes, strict=True):
        np.testing.assert_array_equal(highs, v1.statistics[name].channel_maxima)
        np.testing.assert_array_equal(slopes, v1.slopes[name].by_channel)


def test_uneven_channels_gain_most(v1: SimpleNamespace) -> None:
    """A layer whose every second channel is a hundred times as wide loses nearly all its excess noise to two groups."""
    even = layers_of(v1)["features.3.expand"]
    factors = np.where(np.arange(even.lows.shape[1]) % 2, 100.0, 1.0)
    uneven = replace(even, lows=even.lows * factors, highs=even.highs * factors, slopes=even.slopes / factors**2)
    cut, needless = best_cut(uneven, 2, 1), best_cut(even, 2, 1)
    assert cut
    assert needless
    assert uneven.noise - cut.noise > 100 * (even.noise - needless.noise)
    assert cut.noise < 2 * even.noise
    assert not {channel for channel in cut.rewrite.order[: cut.rewrite.sizes[0]] if channel % 2}
    assert group_channels(v1.model, cut.rewrite)


def test_where_the_logits_do_not_answer_nothing_is_gained() -> None:
    wide = [1.0] * 8 + [100.0] * 8
    deaf = best_cut(layer(wide, slopes=[0.0] * 8 + [1.0] * 8), 2, multiple=8)
    assert deaf
    np.testing.assert_allclose(deaf.noise, layer(wide, slopes=[0.0] * 8 + [1.0] * 8).noise)


def test_no_group_is_narrower_than_a_kernel() -> None:
    found = best_cut(layer([*np.geomspace(1.0, 1000.0, 39).tolist()]), 3, multiple=8)
    assert found
    assert min(found.rewrite.sizes) >= 8


def test_costs_count_what_is_added(v1: SimpleNamespace) -> None:
    before = Counter(node.op_type for node in v1.model.graph.node)
    weights = {each.name: each.dims for each in v1.model.graph.initializer}
    sizes = {value.name: value.type.tensor_type.shape.dim[1:] for value in v1.model.graph.value_info}
    found = [(each, cut) for each in layers_of(v1).values() for cut in candidates(each, (2, 4), (16, 2))]
    assert len(found) > 20
    for of, candidate in found[::3]:
        graph, tensor, groups = group_channels(v1.model, candidate.rewrite).graph, of.tensor, candidate.rewrite.sizes
        added = Counter(node.op_type for node in graph.node) - before
        positions = np.prod([dim.dim_value for dim in sizes[tensor][1:]])
        positions *= (REFERENCE_SIZE / 32) ** 2 if positions > 1 else 1
        read_again = (len(groups) - 1) * np.prod(weights[f"{tensor}.weight"][1:]) * positions
        lanes = sum(-(-size // LANES) for size in groups) - -(-sum(groups) // LANES)
        empty = LANES * lanes  # all but the last group of the uncut layer's are full or were empty before
        expected = (added.total() - added["Clip"]) * OPERATOR + read_again * ELEMENT + empty * of.products * EMPTY
        np.testing.assert_allclose(candidate.cost, expected / of.network)


def test_groups_narrower_than_a_kernel_cost_the_lanes_they_leave_empty() -> None:
    found = layer([1.0] * 32)
    assert found.cost((8, 24)) - found.cost((16, 16)) == pytest.approx(16 * found.products * EMPTY / found.network)
    assert found.cost((16, 16)) < found.cost((8, 24)) < found.cost((8, 8, 8, 8))


def test_the_networks_time_is_that_of_all_operators_but_clamps(v1: SimpleNamespace) -> None:
    dims = {each.name: each.dims for each in v1.model.graph.initializer}
    sizes = {value.name: value.type.tensor_type.shape.dim for value in v1.model.graph.value_info}
    expected = 0.0
    for node in v1.model.graph.node:
        expected += 0 if node.op_type in {"Clip", "Relu"} else OPERATOR
        if node.op_type in {"Conv", "Gemm"}:
            positions = np.prod([dim.dim_value for dim in sizes.get(node.output[0], ())][2:])
            expected += np.prod(dims[node.input[1]]) * positions * ((REFERENCE_SIZE / 32) ** 2 if positions > 1 else 1)
    (network,) = {found.network for found in layers_of(v1).values()}
    assert network == pytest.approx(expected)


@pytest.mark.parametrize(("side", "growth"), [(112, 4.0), (224, 1.0), (448, 1.0)])
def test_small_images_are_counted_as_of_224_pixels_and_large_ones_as_they_are(side: int, growth: float) -> None:
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["": 18]>
        tiny (uint8[n, {side}, {side}, 3] image) => (float[n, 2, {side}, {side}] y)
        <float[2, 3, 1, 1] w = {{1, 1, 1, 1, 1, 1}}, float[2] b = {{0, 0}}, float scale = {{0.5}}, uint8 zero = {{0}}>
        {{
            planes = Transpose <perm = [0, 3, 1, 2]> (image)
            input = DequantizeLinear(planes, scale, zero)
            c = Conv(input, w, b)
            s = Sigmoid(c)
            a = Mul(c, s)
            y = Conv <group = 1> (a, v, b)
        }}"""
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((2, 2, 1, 1), np.float32), "v"))
    model = onnx.shape_inference.infer_shapes(model)
    ends = np.ones(2, np.float32)
    statistics = {name: SimpleNamespace(channel_minima=-ends, channel_maxima=ends) for name in ("c", "a")}
    slopes = {name: SimpleNamespace(by_channel=np.ones(2)) for name in ("c", "a")}
    (found,) = layers(model, statistics, slopes)  # type: ignore[arg-type]
    assert found.products == pytest.approx(3 * side**2 * growth)
    assert found.read == pytest.approx(3 * side**2 * growth)
    assert (found.operators, found.joins, found.cut) == (3, 1, ("c", "a"))


def test_products_are_those_of_every_convolution_that_is_cut(v1: SimpleNamespace) -> None:
    found = layers_of(v1)["features.1.expand"]
    dims = {each.name: each.dims for each in v1.model.graph.initializer}
    sizes = {value.name: value.type.tensor_type.shape.dim[-1].dim_value for value in v1.model.graph.value_info}
    expected = sum(
        np.prod(dims[f"{name}.weight"][1:]) * sizes[name] ** 2 * (REFERENCE_SIZE / 32) ** 2
        for name in ("features.1.expand", "features.1.depthwise")
    )
    assert found.products == pytest.approx(expected)
