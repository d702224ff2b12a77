from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rexnet_export.quantization.calibration.observe import observe
from rexnet_export.quantization.calibration.sigmoid_limits import PARAMS, spans
from rexnet_export.quantization.onnx.view import view
from rexnet_export.quantization.rewrites.group_channels import group_channels
from rexnet_export.quantization.table.params import INT8_MAX, INT8_MIN, from_range
from rexnet_export.quantization.table.rewrites import ChannelGrouping

SATURATES = (math.log(1 / 511), math.log(509 / 3))  # half a step above the first, half below the last integer
LOWEST, HIGHEST = SATURATES[0] - 0.1, SATURATES[1] + 0.1


def stored(inputs: NDArray[np.float64]) -> NDArray[np.float64]:
    return PARAMS.dequantize(PARAMS.quantize(1 / (1 + np.exp(-inputs))))


@given(st.floats(1e-9, 700))
def test_where_it_saturates_every_input_beyond_has_one_answer(beyond: float) -> None:
    assert stored(np.array([SATURATES[0] - beyond])) == 0
    assert stored(np.array([SATURATES[1] + beyond])) == 255 / 256


def test_before_that_answers_differ() -> None:
    assert stored(np.array([SATURATES[0] + 1e-6])) == 1 / 256
    assert stored(np.array([SATURATES[1] - 1e-6])) == 254 / 256


def ends(low: float, high: float, precision: type[np.floating]) -> NDArray[np.floating]:
    """The first and last value of a range's grid, as a format that computes so sees them."""
    return from_range(low, high).dequantize(np.array([INT8_MIN, INT8_MAX])).astype(precision)


def levels(inputs: NDArray[np.floating]) -> NDArray[np.int64]:
    """What the sigmoid of the inputs, computed as precisely as they are, is stored as."""
    return PARAMS.quantize((1 / (1 + np.exp(-inputs.astype(np.float64)))).astype(inputs.dtype))


@pytest.mark.parametrize("precision", [np.float32, np.float16])
@given(low=st.floats(LOWEST, 0), high=st.floats(0, HIGHEST))
def test_a_gate_whose_input_is_clipped_still_saturates(precision: type[np.floating], low: float, high: float) -> None:
    assert levels(ends(LOWEST, high, precision))[0] == INT8_MIN
    assert levels(ends(low, HIGHEST, precision))[1] == INT8_MAX


@pytest.mark.parametrize("precision", [np.float32, np.float16])
@settings(max_examples=1000)
@given(high=st.floats(0, 60) | st.floats(0, 5000))
def test_silu_of_the_lowest_input_is_zero(precision: type[np.floating], high: float) -> None:
    lowest, _ = ends(LOWEST, high, precision)
    outputs = from_range(-0.2785, high / (1 + np.exp(-high)))
    silu = lowest * PARAMS.dequantize(levels(np.array([lowest])))
    assert outputs.quantize(silu) == outputs.zero_point[0]


def graph(body: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["": 18]>
        tiny (float[batch, 4, 8, 8] x, float[batch, 4, 8, 8] other) => (float[batch, 4, 8, 8] y)
        <float ten = {{10.0}}>
        {{
            in = Mul(x, ten)
            {body}
        }}"""
    )


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("s = Sigmoid(in)  y = Mul(in, s)", (LOWEST, math.inf)),
        ("s = Sigmoid(in)  y = Mul(s, in)", (LOWEST, math.inf)),
        ("s = Sigmoid(in)  y = Mul(other, s)", (LOWEST, HIGHEST)),
        ("s = Sigmoid(in)  t = Mul(in, s)  y = Add(t, in)", None),  # the sum tells low inputs apart
        ("s = Sigmoid(in)  y = Mul(in, other)", None),
        ("y = Mul(in, other)", None),
    ],
)
def test_only_what_a_sigmoid_alone_or_a_silu_reads_has_a_span(body: str, expected: tuple[float, float] | None) -> None:
    assert spans(view(graph(body))).get("in") == expected


def test_an_output_of_the_graph_has_none() -> None:
    model = graph("s = Sigmoid(in)  y = Mul(in, s)")
    model.graph.output.append(onnx.helper.make_tensor_value_info("in", onnx.TensorProto.FLOAT, None))
    assert spans(view(model)) == {}


def test_every_silu_and_gate_of_a_rexnet_has_one(v1: SimpleNamespace) -> None:
    found = spans(view(v1.model))
    assert len(found) == sum(node.op_type == "Sigmoid" for node in v1.model.graph.node)
    assert found["features.3.expand"] == (LOWEST, math.inf)
    assert found["features.3.excite"] == (LOWEST, HIGHEST)


def test_every_group_of_a_layer_has_one(v1: SimpleNamespace) -> None:
    channels = len(v1.statistics["features.3.expand"].channel_minima)
    rewrite = ChannelGrouping(tensor="features.3.expand", order=tuple(range(channels)), sizes=(8, channels - 8))
    found = spans(view(group_channels(v1.model, rewrite)))
    assert found["features.3.expand.g0"] == found["features.3.expand.g1"] == (LOWEST, math.inf)
    assert "features.3.expand" not in found
    assert found["features.3.excite.g0"] == (LOWEST, HIGHEST)


def test_observed_values_beyond_count_as_the_ends(v1: SimpleNamespace) -> None:
    model = onnx.load(v1.path)
    scaled = {"features.3.expand.weight", "features.3.excite.weight"}
    for tensor in model.graph.initializer:
        if tensor.name in scaled:
            tensor.CopyFrom(onnx.numpy_helper.from_array(1000 * onnx.numpy_helper.to_array(tensor), tensor.name))
    path = v1.path.with_name("loud.onnx")
    onnx.save(model, path)
    found = observe(path, [v1.images], ["features.3.expand", "features.3.excite"])
    expand, excite = found.values()
    assert expand.minimum == pytest.approx(LOWEST)
    assert expand.channel_minima.min() == pytest.approx(LOWEST)
    assert float(expand.mean_minimum) == pytest.approx(LOWEST)
    assert expand.maximum > 10 * HIGHEST
    assert (excite.minimum, excite.maximum) == (pytest.approx(LOWEST), pytest.approx(HIGHEST))
    assert excite.counts.sum() == np.prod(excite.channel_minima.shape) * len(v1.images)
