from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.quantization.calibration.observe import observe
from rexnet_export.quantization.calibration.ranges import ranged
from rexnet_export.quantization.onnx.view import model_sha256, view
from rexnet_export.quantization.scheme.scheme import decide, observed_tensors, plan, rescaled
from rexnet_export.quantization.table.params import QuantParams, for_weights, from_range
from rexnet_export.quantization.table.table import Calibration, TensorEntry

CALIBRATION = Calibration(images_sha256="0" * 64, images=12, statistic="min-max", seed=0)
RELU6 = QuantParams(scale=(float(np.float16(6 / 255)),), zero_point=(-128,))
UNIT = QuantParams(scale=(1 / 256,), zero_point=(-128,))


def parsed(body: str, constants: str = "") -> onnx.ModelProto:
    return onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["": 18]>
        tiny (uint8[batch, 4, 8, 8] image) => (float[batch, 4, 8, 8] y)
        <float scale = {{0.00390625}}, uint8 zero = {{0}}, float low = {{0.0}}, float high = {{6.0}} {constants}>
        {{
            input = DequantizeLinear(image, scale, zero)
            {body}
        }}"""
    )


def test_every_tensor_has_an_entry_and_nothing_else(either: SimpleNamespace) -> None:
    graph = either.model.graph
    image = {"input.constant_channel", "input.nchw"}
    activations = {node.output[0] for node in graph.node} - image
    parameters = {name for node in graph.node if node.op_type in {"Conv", "Gemm"} for name in node.input[1:]}
    assert either.table.tensors.keys() == activations | parameters
    assert either.table.model_sha256 == model_sha256(either.model)


def test_what_operators_bound_is_fixed(v1: SimpleNamespace) -> None:
    tensors = v1.table.tensors
    for node in v1.model.graph.node:
        if node.op_type == "Sigmoid":
            assert (tensors[node.output[0]].decision, tensors[node.output[0]].params) == ("fixed", UNIT)
        if node.op_type == "Clip":
            assert (tensors[node.output[0]].decision, tensors[node.output[0]].params) == ("fixed", RELU6)
    assert tensors["input"].params == UNIT


def test_what_a_clamp_alone_reads_is_fused_into_it(v1: SimpleNamespace, lite: SimpleNamespace) -> None:
    gated = v1.table.tensors
    assert (gated["features.3.gated"].decision, gated["features.3.gated"].source) == ("fused", "features.3.relu6")
    assert (gated["features.3.squeeze"].decision, gated["features.3.squeeze"].source) == (
        "fused",
        "features.3.squeeze.relu",
    )
    assert gated["features.3.depthwise"].decision == "observed", "the pool reads it too"
    assert gated["features.0.depthwise"].decision == "fused"
    assert gated["stem"].decision == "observed", "SiLU reads it twice"
    assert lite.table.tensors["stem"].decision == "fused"
    assert "stem" not in observed_tensors(lite.model)


def test_what_a_clamp_and_another_read_is_not_fused() -> None:
    model = parsed("a = Mul(input, input) b = Clip(a, low, high) y = Mul(a, b)")
    assert observed_tensors(model) == ("a", "y")


def test_what_the_graph_gives_is_not_fused() -> None:
    model = parsed("a = Mul(input, input) y = Clip(a, low, high)")
    assert observed_tensors(model) == ()
    model.graph.output.append(onnx.helper.make_tensor_value_info("a", onnx.TensorProto.FLOAT, None))
    assert observed_tensors(model) == ("a",)


def test_what_is_read_by_another_operator_alone_is_not_fused() -> None:
    assert observed_tensors(parsed("a = Mul(input, input) y = Sigmoid(a)")) == ("a",)


def test_what_is_joined_has_the_scale_of_the_whole_or_the_fixed_one_of_its_parts() -> None:
    entries = plan(view(parsed("a = Mul(input, input) b = Add(a, input) y = Concat <axis = 1> (a, b)")))
    assert [(name, e.decision, e.source) for name, e in entries.items()] == [
        ("input", "fixed", None),
        ("a", "shared", "y"),
        ("b", "shared", "y"),
        ("y", "observed", None),
    ]
    entries = plan(view(parsed("a = Sigmoid(input) b = Sigmoid(input) y = Concat <axis = 1> (a, b)")))
    assert (entries["y"].decision, entries["y"].source) == ("shared", "a")


def test_what_only_moves_shares_its_source(v1: SimpleNamespace) -> None:
    tensors = v1.table.tensors
    pad = tensors["features.2.residual.pad"]
    assert (pad.decision, pad.source, pad.params) == (
        "shared",
        "features.1.project",
        tensors["features.1.project"].params,
    )
    assert tensors["flatten"].params == tensors["pool"].params


def test_the_rest_is_observed_and_covers_its_range(either: SimpleNamespace) -> None:
    names = [name for name, entry in either.table.tensors.items() if entry.decision == "observed"]
    assert names == list(observed_tensors(either.model))
    for name in names:
        entry, seen = either.table.tensors[name], either.statistics[name]
        assert entry.observed == (seen.minimum, seen.maximum)
        assert entry.params == from_range(seen.minimum, seen.maximum)
        assert entry.statistic == "min-max"


def test_parameters_follow_from_values_and_scales(either: SimpleNamespace) -> None:
    tensors = either.table.tensors
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in either.model.graph.initializer}
    for node in either.model.graph.node:
        if node.op_type in {"Conv", "Gemm"}:
            weights, bias = tensors[node.input[1]].params, tensors[node.input[2]].params
            assert weights == for_weights(constants[node.input[1]])
            expected = tuple(tensors[node.input[0]].params.scale[0] * scale for scale in weights.scale)
            assert (bias.scale, bias.bits, bias.axis) == (expected, 32, 0)
            assert tensors[node.input[2]].source == node.input[0]


def test_a_dead_channel_keeps_its_bias(v1: SimpleNamespace, tmp_path: Path) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(v1.model)
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor).copy()
        if tensor.name == "features.1.expand.weight":
            values[0], values[1] = 1e-20, 0.0
        if tensor.name == "features.1.expand.bias":
            values[:2] = 2.5
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    params = decide(model, v1.statistics, CALIBRATION).tensors["features.1.expand.bias"].params
    bias = np.asarray([2.5] * len(params.scale))
    assert np.allclose(params.dequantize(params.quantize(bias))[:2], 2.5, atol=1e-3)


def test_a_tensor_may_have_its_own_statistic(v1: SimpleNamespace) -> None:
    plain = decide(v1.model, v1.statistics, CALIBRATION).tensors
    mixed = decide(
        v1.model, v1.statistics, CALIBRATION, {"stem.silu": ranged(v1.statistics["stem.silu"], "mean-min-max")}
    ).tensors
    seen = v1.statistics["stem.silu"]
    assert mixed["stem.silu"].statistic == "mean-min-max"
    assert mixed["stem.silu"].observed == (seen.mean_minimum, seen.mean_maximum)
    others = {name for name in plain if plain[name] != mixed[name]}
    assert others == {"stem.silu", "features.0.depthwise.bias"}


def test_the_statistic_decides_the_range(v1: SimpleNamespace) -> None:
    calibration = Calibration(images_sha256="0" * 64, images=12, statistic="percentile-90", seed=0)
    tensors = decide(v1.model, v1.statistics, calibration).tensors
    assert tensors["stem.silu"].params.scale[0] < v1.table.tensors["stem.silu"].params.scale[0]
    assert tensors["stem.sigmoid"] == v1.table.tensors["stem.sigmoid"]


def test_a_tensor_that_was_not_observed_is_named(v1: SimpleNamespace) -> None:
    partial = {name: found for name, found in v1.statistics.items() if name != "features.3.pool"}
    with pytest.raises(ConversionError, match=r"features\.3\.pool was not observed"):
        decide(v1.model, partial, CALIBRATION)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("y = HardSwish(input)", r"HardSwish  has no INT8 form"),
        ("a = Sigmoid(input) y = Softmax(a)", r"Softmax  has no INT8 form"),
        ("y = Mul(input, high)", r"Mul  reads high, which is no activation"),
        ("y = Clip(input, low)", r"Clip  needs a constant as input 2, not ''"),
        ("y = Clip(input, high, high)", r"Clip  to \[6, 6\]"),
        ("y = Conv(input, input, input)", r"Conv  needs a constant as input 1, not 'input'"),
        ("a = Conv(input, w, b) y = Conv(a, w, b)", r"Conv  shares w with another node"),
        ("y = Conv(input, w)", r"Conv  needs a constant as input 2, not ''"),
        ("y = Gemm(input, w, b)", r"Gemm  must be"),
        ("y = Gemm <transB = 1, alpha = 0.5> (input, w, b)", r"Gemm  must be"),
        ("y = Clip(input, low, low)", r"Clip  to \[0, 0\]"),
        ("a = Mul(input, input) s = Sigmoid(input) y = Concat <axis = 1> (a, s)", "joins tensors whose scales"),
        ("y = Add(input, high)", r"Add  reads high, which is no activation"),
        ("y = Add(high, input)", r"Add  reads high, which is no activation"),
    ],
)
def test_what_has_no_int8_form_is_named(body: str, message: str) -> None:
    model = parsed(body, ", float[1] w = {1.0}, float[1] b = {1.0}")
    with pytest.raises(ConversionError, match=message):
        observed_tensors(model)


def test_a_clip_to_less_than_one_has_a_scale_of_its_own() -> None:
    entries = plan(view(parsed("y = Clip(input, low, half)", ", float half = {0.5}")))
    assert entries["y"].params == QuantParams(scale=(float(np.float16(0.5 / 255)),), zero_point=(-128,))


@pytest.mark.parametrize(("constant", "value"), [("scale", np.ones(4, np.float32)), ("zero", np.zeros((), np.int8))])
def test_pixels_are_uint8_with_one_scale(constant: str, value: np.ndarray) -> None:
    graph = view(parsed("y = Sigmoid(input)"))
    with pytest.raises(ConversionError, match="must turn uint8 pixels into numbers with one scale"):
        plan(replace(graph, constants={**graph.constants, constant: value}))


def test_the_zero_point_of_pixels_is_128_lower_as_a_signed_integer() -> None:
    graph = view(parsed("y = Sigmoid(input)"))
    found = plan(replace(graph, constants={**graph.constants, "zero": np.array(3, np.uint8)}))
    assert found["input"].params == QuantParams(scale=(1 / 256,), zero_point=(-125,))


@pytest.mark.parametrize("name", ["stem.silu", "features.0.relu6"])
def test_a_layer_between_tensors_without_scales_is_refused(v1: SimpleNamespace, name: str) -> None:
    """Its input, and the clamp that takes up its output."""
    without = {**v1.table.tensors, name: replace(v1.table.tensors[name], params=None)}
    with pytest.raises(ConversionError, match=r"features\.0\.depthwise lies between clamps that take up stem\.silu"):
        rescaled(view(v1.model), replace(v1.table, tensors=without))


def test_weights_beyond_float16_are_refused_though_only_one_channel_is(v1: SimpleNamespace) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(v1.model)
    (tensor,) = (each for each in model.graph.initializer if each.name == "stem.weight")
    values = onnx.numpy_helper.to_array(tensor).copy()
    values[0] = 1e8
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    with pytest.raises(ConversionError, match=r"stem\.weight needs a scale beyond float16"):
        decide(model, v1.statistics, CALIBRATION)


def test_weights_that_stay_in_float_get_no_scales(v1: SimpleNamespace) -> None:
    kept = TensorEntry(decision="float", reason="asked for")
    table = replace(v1.table, tensors={**v1.table.tensors, "logits.weight": kept, "logits.bias": kept})
    assert rescaled(view(v1.model), table) == table


def test_ranges_beyond_float16_are_refused(v1: SimpleNamespace, tmp_path: Path) -> None:
    model = parsed("big = Mul(input, input) y = Mul(big, big)", ", float f = {0.0}")
    next(t for t in model.graph.initializer if t.name == "scale").CopyFrom(
        onnx.numpy_helper.from_array(np.float32(256.0), "scale")
    )
    path = tmp_path / "big.onnx"
    path.write_bytes(model.SerializeToString())
    statistics = observe(path, [np.full((1, 4, 8, 8), 255, np.uint8)], observed_tensors(model))
    with pytest.raises(ConversionError, match=r"big needs a scale beyond float16"):
        decide(model, statistics, CALIBRATION)


def test_the_digest_is_of_what_a_model_computes(v1: SimpleNamespace) -> None:
    described, changed = onnx.ModelProto(), onnx.ModelProto()
    described.CopyFrom(v1.model)
    onnx.helper.set_model_props(described, {"model": "another name"})
    changed.CopyFrom(v1.model)
    changed.graph.initializer[-1].raw_data = changed.graph.initializer[-1].raw_data[::-1]
    assert model_sha256(described) == model_sha256(v1.model)
    assert model_sha256(changed) != model_sha256(v1.model)


def test_what_joins_fixed_scales_that_differ_is_refused() -> None:
    body = "s = Sigmoid(input) c = Clip(input, low, high) y = Concat <axis = 1> (s, s, c)"
    with pytest.raises(ConversionError, match="joins tensors whose scales cannot be made one"):
        observed_tensors(parsed(body))
