from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rexnet_export.quantization.graph import view
from rexnet_export.quantization.observe import observe
from rexnet_export.quantization.qparams import INT8_MAX, INT8_MIN, from_range
from rexnet_export.quantization.sigmoid import HIGHEST, LOWEST, PARAMS, SATURATES, spans


def stored(inputs: NDArray[np.float64]) -> NDArray[np.float64]:
    return PARAMS.dequantize(PARAMS.quantize(1 / (1 + np.exp(-inputs))))


@given(st.floats(1e-9, 700))
def test_where_it_saturates_every_input_beyond_has_one_answer(beyond: float) -> None:
    assert stored(np.array([SATURATES[0] - beyond])) == 0
    assert stored(np.array([SATURATES[1] + beyond])) == 255 / 256


def test_before_that_answers_differ() -> None:
    assert stored(np.array([SATURATES[0] + 1e-6])) == 1 / 256
    assert stored(np.array([SATURATES[1] - 1e-6])) == 254 / 256


@given(st.floats(LOWEST, 0), st.floats(0, HIGHEST))
def test_the_grid_of_a_clipped_range_still_saturates(low: float, high: float) -> None:
    for ends in ((LOWEST, high), (low, HIGHEST)):
        params = from_range(*ends)
        least, greatest = stored(params.dequantize(np.array([INT8_MIN, INT8_MAX])))
        assert ends[0] != LOWEST or least == 0
        assert ends[1] != HIGHEST or greatest == 255 / 256


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
