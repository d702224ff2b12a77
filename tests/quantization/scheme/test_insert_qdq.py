from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.quantization.calibration.observe import observe
from rexnet_export.quantization.onnx.simulate import run
from rexnet_export.quantization.rewrites.group_channels import group_channels
from rexnet_export.quantization.scheme.insert_qdq import Integers, QdqGraphs, insert_qdq
from rexnet_export.quantization.scheme.scheme import decide, observed_tensors
from rexnet_export.quantization.table.rewrites import ChannelGrouping
from rexnet_export.quantization.table.table import TensorEntry

NO_OPTIMIZER = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
# Moves integers, or computes on them; a DequantizeLinear ends the graph.
INTEGER_OPS = {
    "Pad",
    "Transpose",
    "Flatten",
    "QLinearConv",
    "QLinearSigmoid",
    "QLinearMul",
    "QLinearAdd",
    "QLinearGlobalAveragePool",
    "QGemm",
}


def integers(model: onnx.ModelProto, images: np.ndarray) -> dict[str, np.ndarray]:
    """Every activation's integers, computed literally (quantize, dequantize and float operators between)."""
    names = [node.output[0] for node in model.graph.node if node.output[0].endswith(".q")]
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    exposed.graph.output.extend(value for value in model.graph.value_info if value.name in names)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = NO_OPTIMIZER
    session = onnxruntime.InferenceSession(exposed.SerializeToString(), options)
    return dict(zip(names, session.run(names, {"image": images}), strict=True))


def optimized(model: onnx.ModelProto, activations: Integers, folder: Path) -> onnx.ModelProto:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.add_session_config_entry("session.qdqisint8allowed", "1" if activations == "int8" else "0")
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return onnx.load(folder / "optimized.onnx")


@pytest.mark.parametrize("activations", ["uint8", "int8"])
def test_onnx_runtime_computes_everything_in_integers(
    either: SimpleNamespace, activations: Integers, tmp_path: Path
) -> None:
    model = insert_qdq(either.model, either.table, activations)
    fused = optimized(model, activations, tmp_path)
    found = Counter(node.op_type for node in fused.graph.node)
    wanted = Counter(node.op_type for node in either.model.graph.node)
    # int8 activations need the one conversion of the uint8 image; it is float for one multiplication.
    at_image = Counter(QuantizeLinear=1, DequantizeLinear=1) if activations == "int8" else Counter()
    assert found.keys() <= INTEGER_OPS | {"DequantizeLinear"} | at_image.keys()
    assert found["DequantizeLinear"] == 1 + at_image["DequantizeLinear"]
    ends = {node.output[0] for node in fused.graph.node if node.op_type == "DequantizeLinear"}
    assert "logits" in ends
    for op, qlinear in [
        ("Conv", "QLinearConv"),
        ("Sigmoid", "QLinearSigmoid"),
        ("Mul", "QLinearMul"),
        ("Add", "QLinearAdd"),
        ("GlobalAveragePool", "QLinearGlobalAveragePool"),
        ("Gemm", "QGemm"),
    ]:
        assert found[qlinear] == wanted[op], op


def test_both_forms_compute_the_same_integers(either: SimpleNamespace) -> None:
    signed = integers(insert_qdq(either.model, either.table, "int8"), either.images)
    unsigned = integers(insert_qdq(either.model, either.table, "uint8"), either.images)
    assert signed.keys() - unsigned.keys() == {"input.q"}
    for name, values in unsigned.items():
        assert values.dtype == np.uint8
        assert (values.astype(int) - 128 == signed[name]).all(), name


def test_logits_follow_the_float_network(either: SimpleNamespace) -> None:
    expected = onnxruntime.InferenceSession(either.path).run(None, {"image": either.images})[0]
    values = run(insert_qdq(either.model, either.table), either.images)
    signal, noise = np.square(expected).sum(), np.square(values - expected).sum()
    assert 10 * np.log10(signal / noise) > 25


def test_the_stem_is_the_integer_convolution_the_table_means(v1: SimpleNamespace) -> None:
    tensors = v1.table.tensors
    found = integers(insert_qdq(v1.model, v1.table), v1.images)
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in v1.model.graph.initializer}
    white = np.full((*v1.images.shape[:3], 1), 255, np.uint8)
    pixels = np.concatenate([v1.images, white], axis=3).transpose(0, 3, 1, 2).astype(int)
    assert (found["input.q"] == pixels - 128).all()
    weights, bias = (
        torch.from_numpy(tensors[name].params.quantize(constants[name])).double()
        for name in ("stem.weight", "stem.bias")
    )
    sums = torch.nn.functional.conv2d(torch.from_numpy(pixels).double(), weights, bias, stride=2, padding=1).numpy()
    output = tensors["stem"].params
    expected = output.quantize(sums * np.asarray(tensors["stem.bias"].params.scale)[:, None, None])
    difference = np.abs(found["stem.q"] - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3


def test_padding_appends_the_integer_that_means_zero(v1: SimpleNamespace) -> None:
    found = integers(insert_qdq(v1.model, v1.table), v1.images)
    source, padded = found["features.1.project.q"], found["features.2.residual.pad.q"]
    channels = source.shape[1]
    assert padded.shape[1] > channels
    assert (padded[:, :channels] == source).all()
    assert (padded[:, channels:] == v1.table.tensors["features.1.project"].params.zero_point[0]).all()


@pytest.mark.parametrize(("activations", "shift"), [("int8", 0), ("uint8", 128)])
def test_the_file_holds_the_table(either: SimpleNamespace, activations: Integers, shift: int) -> None:
    model = insert_qdq(either.model, either.table, activations)
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    read = {
        node.input[0].removesuffix(".q"): (constants[node.input[1]], constants[node.input[2]])
        for node in model.graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] != "input.nchw"
    }
    moved_only = {"pool", "neck.relu6"} if activations == "int8" else {"pool", "neck.relu6", "input"}
    for name, entry in either.table.tensors.items():
        if entry.params is None:
            assert name not in read
        elif name in read:
            scale, zero_point = read[name]
            offset = 0 if entry.params.bits == 32 else shift
            assert scale.dtype == np.float32
            assert tuple(scale.reshape(-1).tolist()) == entry.params.scale
            assert tuple((zero_point.reshape(-1).astype(int) - offset).tolist()) == entry.params.zero_point
        else:
            assert name in moved_only


def test_ends_names_and_metadata_stay(v1: SimpleNamespace) -> None:
    model = insert_qdq(v1.model, v1.table, "uint8")
    assert model.metadata_props == v1.model.metadata_props
    assert (model.graph.input, model.graph.output) == (v1.model.graph.input, v1.model.graph.output)
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert model.opset_import == v1.model.opset_import
    assert all(node.name == node.output[0] for node in model.graph.node)
    names = [output for node in model.graph.node for output in node.output]
    names += [tensor.name for tensor in model.graph.initializer]
    assert len(set(names)) == len(names)
    assert not [t.name for t in model.graph.initializer if t.name.endswith((".weight", ".bias"))], "float weights left"


def test_the_same_input_gives_the_same_bytes_and_stays_untouched(v1: SimpleNamespace) -> None:
    before = v1.model.SerializeToString(deterministic=True)
    first, second = (insert_qdq(v1.model, v1.table, "uint8").SerializeToString(deterministic=True) for _ in range(2))
    assert first == second
    assert v1.model.SerializeToString(deterministic=True) == before


def test_only_what_the_graph_gives_is_renamed(either: SimpleNamespace) -> None:
    names = [node.output[0] for node in insert_qdq(either.model, either.table).graph.node]
    assert [name for name in names if name.endswith(".float")] == ["logits.float"]


@pytest.fixture(scope="module")
def joined(v1: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The tiny network with one layer's channels in two tensors, which a Concat joins again."""
    channels = len(v1.statistics["features.3.expand"].channel_minima)
    order = tuple(reversed(range(channels)))
    model = group_channels(v1.model, ChannelGrouping(tensor="features.3.expand", order=order, sizes=(8, channels - 8)))
    path = tmp_path_factory.mktemp("joined") / "joined.onnx"
    path.write_bytes(model.SerializeToString())
    statistics = observe(path, [v1.images], observed_tensors(model))
    return SimpleNamespace(model=model, images=v1.images, table=decide(model, statistics, v1.table.calibration))


@pytest.mark.parametrize("moved", [True, False])
def test_parts_are_joined_as_integers_or_each_for_itself(joined: SimpleNamespace, *, moved: bool) -> None:
    model = insert_qdq(joined.model, joined.table, "uint8", moved=moved)
    joins = [node for node in model.graph.node if node.op_type == "Concat"]
    assert joins
    ends = {end for node in joins for end in (*node.input, *node.output)}
    assert all(end.endswith(".q") for end in ends) == moved
    assert any(end.endswith(".q") for end in ends) == moved
    expected, values = run(joined.model, joined.images), run(model, joined.images)
    assert 10 * np.log10(np.square(expected).sum() / np.square(values - expected).sum()) > 25


def test_parts_with_other_parameters_than_the_whole_are_refused(joined: SimpleNamespace) -> None:
    (node, *_) = (node for node in joined.model.graph.node if node.op_type == "Concat")
    part = joined.table.tensors[node.input[1]]
    wider = replace(part, params=replace(part.params, scale=(2 * part.params.scale[0],)))
    with pytest.raises(ConversionError, match=f"{node.output[0]} and {node.input[1]} need the same parameters"):
        insert_qdq(joined.model, replace(joined.table, tensors={**joined.table.tensors, node.input[1]: wider}))


def test_a_table_of_another_model_is_refused(v1: SimpleNamespace, lite: SimpleNamespace) -> None:
    with pytest.raises(ConversionError, match="the table belongs to model"):
        insert_qdq(lite.model, v1.table)


def test_a_table_with_other_tensors_is_refused(v1: SimpleNamespace) -> None:
    lacking = {name: entry for name, entry in v1.table.tensors.items() if name != "stem"}
    with pytest.raises(ConversionError, match="do not both have stem;"):
        insert_qdq(v1.model, replace(v1.table, tensors=lacking))
    extra = {**v1.table.tensors, "ghost": TensorEntry(decision="float", reason="test")}
    with pytest.raises(ConversionError, match="do not both have ghost;"):
        insert_qdq(v1.model, replace(v1.table, tensors=extra))


def test_scales_for_another_channel_count_are_refused(v1: SimpleNamespace) -> None:
    entry = v1.table.tensors["stem.weight"]
    short = replace(
        entry, params=replace(entry.params, scale=entry.params.scale[1:], zero_point=entry.params.zero_point[1:])
    )
    with pytest.raises(ConversionError, match=r"stem\.weight \(.*\) has \d+ scales along axis 0"):
        insert_qdq(v1.model, replace(v1.table, tensors={**v1.table.tensors, "stem.weight": short}))


def test_a_correction_shifts_the_bias_that_is_stored(v1: SimpleNamespace) -> None:
    entry = v1.table.tensors["stem.bias"]
    steps = np.arange(len(entry.params.scale))
    corrected = replace(entry, correction=tuple((steps * entry.params.scale).tolist()))
    table = replace(v1.table, tensors={**v1.table.tensors, "stem.bias": corrected})
    before, after = (
        next(
            onnx.numpy_helper.to_array(t) for t in insert_qdq(v1.model, t_).graph.initializer if t.name == "stem.bias.q"
        )
        for t_ in (v1.table, table)
    )
    assert (after - before == steps).all()


def test_several_tables_of_a_model_are_written_as_each_alone(v1: SimpleNamespace) -> None:
    name = "stem.bias"
    entry = v1.table.tensors[name]
    steps = np.full(len(entry.params.scale), 100.0) * np.asarray(entry.params.scale)
    changed = replace(v1.table, tensors=v1.table.tensors | {name: replace(entry, correction=tuple(steps.tolist()))})
    graphs = QdqGraphs(v1.model)
    for table, integers in ((v1.table, "uint8"), (changed, "uint8"), (v1.table, "int8"), (v1.table, "uint8")):
        assert graphs.of(table, integers) == insert_qdq(v1.model, table, integers)
    assert insert_qdq(v1.model, changed) != insert_qdq(v1.model, v1.table)
