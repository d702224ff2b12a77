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
from onnx import numpy_helper

from rexnet_export.quantization.grouping import group_channels
from rexnet_export.quantization.partition import (
    ELEMENT,
    OPERATOR,
    REFERENCE_SIZE,
    Candidate,
    Layer,
    best_cut,
    candidates,
    layers,
)
from rexnet_export.quantization.rewrites import apply

spreads = st.lists(st.floats(0.01, 100.0), min_size=9, max_size=9)


def layer(*ranges: list[float], gains: list[float] | None = None) -> Layer:
    highs = np.array(ranges)
    return Layer(
        operators=4,
        joins=1,
        read=100,
        network=1e8,
        tensor="t",
        lows=-highs / 2,
        highs=highs / 2,
        squared_gains=np.array([gains or [1.0] * highs.shape[1]] * len(highs)),
    )


def noise(found: Layer, groups: list[NDArray[np.int64]]) -> float:
    """F of the module's docstring, literally."""
    total = 0.0
    for lows, highs, gains in zip(found.lows, found.highs, found.squared_gains, strict=True):
        least = sum((high - low) ** 2 * gain for low, high, gain in zip(lows, highs, gains, strict=True))
        for group in groups:
            total += (highs[group].max() - lows[group].min()) ** 2 * gains[group].sum() / least
    return total


@given(ranges=spreads, gains=spreads, count=st.integers(2, 4))
def test_no_cut_of_ordered_channels_is_better(ranges: list[float], gains: list[float], count: int) -> None:
    found = layer(ranges, gains=gains)
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
    np.testing.assert_allclose(candidate.gain, noise(found, [order]) - candidate.noise, atol=1e-9)
    assert [size % 2 for size in sizes[:-1]] == [0, 0]


def test_too_few_channels_are_not_cut() -> None:
    assert best_cut(layer([1.0, 2.0, 3.0]), 2, multiple=8) is None
    assert best_cut(layer([1.0] * 23), 3, multiple=8) is None
    assert best_cut(layer([1.0] * 24), 3, multiple=8)


def test_dead_channels_do_no_harm() -> None:
    found = best_cut(layer([0.0, 0.0, 0.0, 1.0]), 2, multiple=1)
    assert found
    assert np.isfinite([found.noise, found.gain]).all()
    assert best_cut(layer([0.0] * 4), 2, multiple=1)


def test_every_layer_before_silu_is_offered(v1: SimpleNamespace, r: SimpleNamespace, lite: SimpleNamespace) -> None:
    found = candidates(v1.model, v1.statistics, counts=(2, 3))
    expanding = [node.name for node in v1.model.graph.node if node.name.endswith(".expand")]
    assert list(dict.fromkeys(candidate.rewrite.tensor for candidate in found)) == ["stem", *expanding, "penultimate"]
    assert apply(v1.model, [candidate.rewrite for candidate in found if len(candidate.rewrite.sizes) == 3])
    assert "penultimate" in {candidate.rewrite.tensor for candidate in candidates(r.model, r.statistics, counts=(2,))}
    assert candidates(lite.model, lite.statistics) == ()


def test_the_tensors_with_scales_of_their_own_decide(v1: SimpleNamespace) -> None:
    by_name = {found.tensor: found for found in layers(v1.model, v1.statistics)}
    gated, plain = by_name["features.3.expand"], by_name["features.1.expand"]
    assert (len(gated.lows), len(plain.lows)) == (3, 2), "without a gate ReLU6 takes up the depthwise output"
    names = {"features.3.depthwise", "features.3.expand.silu", "features.3.expand"}
    wanted = {tuple(v1.statistics[name].channel_maxima.tolist()) for name in names}
    assert {tuple(row) for row in gated.highs.tolist()} == wanted


@pytest.mark.parametrize("tensor", ["features.1.expand", "features.3.expand", "penultimate"])
def test_gains_carry_noise_to_the_reader(v1: SimpleNamespace, tensor: str) -> None:
    """Doubling the weights that follow a channel makes its noise four times as strong, and no other channel's."""
    reader = {"penultimate": "logits.weight"}.get(tensor, tensor.replace("expand", "project.weight"))
    model = onnx.ModelProto()
    model.CopyFrom(v1.model)
    (weights,) = (initializer for initializer in model.graph.initializer if initializer.name == reader)
    values = numpy_helper.to_array(weights).copy()
    values[:, 5] *= 2
    weights.CopyFrom(numpy_helper.from_array(values, reader))
    before, after = (
        next(found for found in layers(each, v1.statistics) if found.tensor == tensor) for each in (v1.model, model)
    )
    factors = after.squared_gains / before.squared_gains
    np.testing.assert_allclose(factors[:, 5], 4, rtol=1e-5)
    np.testing.assert_allclose(np.delete(factors, 5, axis=1), 1)


def test_uneven_channels_gain_most(v1: SimpleNamespace) -> None:
    """A layer whose every second channel is a hundred times as wide loses nearly all its excess noise to two groups."""
    model = onnx.ModelProto()
    model.CopyFrom(v1.model)
    statistics = dict(v1.statistics)
    (uneven,) = (found for found in layers(model, statistics) if found.tensor == "features.3.expand")
    factors = np.where(np.arange(uneven.lows.shape[1]) % 2, 100.0, 1.0)
    stretched = replace(
        uneven,
        lows=uneven.lows * factors,
        highs=uneven.highs * factors,
        squared_gains=uneven.squared_gains / factors**2,
    )
    even, cut = best_cut(uneven, 2, 1), best_cut(stretched, 2, 1)
    assert isinstance(even, Candidate)
    assert isinstance(cut, Candidate)
    assert cut.gain > 100 * even.gain
    assert cut.noise < 2 * (even.noise + even.gain)
    odd = {channel for channel in cut.rewrite.order[: cut.rewrite.sizes[0]] if channel % 2}
    assert not odd
    assert group_channels(model, cut.rewrite)


def test_no_group_is_narrower_than_a_kernel() -> None:
    found = best_cut(layer([*np.geomspace(1.0, 1000.0, 39).tolist()]), 3, multiple=8)
    assert found
    assert min(found.rewrite.sizes) >= 8


def test_costs_count_what_is_added(v1: SimpleNamespace) -> None:
    before = Counter(node.op_type for node in v1.model.graph.node)
    networks = {found.tensor: found.network for found in layers(v1.model, v1.statistics)}
    weights = {each.name: each.dims for each in v1.model.graph.initializer}
    sizes = {value.name: value.type.tensor_type.shape.dim[1:] for value in v1.model.graph.value_info}
    found = candidates(v1.model, v1.statistics, counts=(2, 4), multiple=2)
    assert len(found) > 20
    for candidate in found[::3]:
        graph, tensor = group_channels(v1.model, candidate.rewrite).graph, candidate.rewrite.tensor
        added = Counter(node.op_type for node in graph.node) - before
        positions = np.prod([dim.dim_value for dim in sizes[tensor][1:]])
        positions *= (REFERENCE_SIZE / 32) ** 2 if positions > 1 else 1
        read_again = (len(candidate.rewrite.sizes) - 1) * np.prod(weights[f"{tensor}.weight"][1:]) * positions
        expected = (added.total() - added["Clip"]) * OPERATOR + read_again * ELEMENT
        np.testing.assert_allclose(candidate.cost, expected / networks[tensor])
        assert 0 < candidate.cost < 0.2


def test_a_convolution_that_rescales_the_gate_counts(v1: SimpleNamespace) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(v1.model)
    (plain,) = (found for found in layers(model, v1.statistics) if found.tensor == "features.3.expand")
    factors = np.where(np.arange(plain.lows.shape[1]) == 5, 3, 1).astype(np.float32)
    constants = {"w": factors[:, None, None, None], "b": np.zeros_like(factors)}
    model.graph.initializer.extend(numpy_helper.from_array(values, name) for name, values in constants.items())
    nodes = list(model.graph.node)
    (gated,) = (node for node in nodes if node.name == "features.3.gated")
    gated.input[1] = "rescaled"
    rescaling = onnx.helper.make_node("Conv", ["features.3.gate", "w", "b"], ["rescaled"], group=len(factors))
    nodes.insert(nodes.index(gated), rescaling)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    (found,) = (found for found in layers(model, v1.statistics) if found.tensor == "features.3.expand")
    ratio = found.squared_gains / plain.squared_gains
    np.testing.assert_allclose(ratio, np.broadcast_to(np.square(factors), ratio.shape))
