"""TFLite files: what is in them, that it is the table, and what happens to foreign and damaged ones."""

import copy
import io
import math
import struct
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import flatbuffers
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter
from depths import SHORT
from graphs import logits_of
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from shared import ArtifactOf

from rexnet_export.pipeline.artifact.metadata import LICENSE
from rexnet_export.pipeline.artifact.target import Source
from rexnet_export.pipeline.core import extras
from rexnet_export.pipeline.core.errors import ConversionError, DataError, TargetUnavailable
from rexnet_export.pipeline.core.records import Artifact, Precision, Preprocess, file_sha256, stored_file
from rexnet_export.pipeline.graph.float_graph import float_graph
from rexnet_export.pipeline.model.architecture import architecture
from rexnet_export.pipeline.model.rexnet import ReXNet
from rexnet_export.targets.tflite import onnx2tf as tflite_onnx2tf
from rexnet_export.targets.tflite import target as tflite
from rexnet_export.targets.tflite.flatbuffer import Graph, read_graph
from rexnet_export.targets.tflite.match_onnx import Lowered, core_graph, lower, matched
from rexnet_export.targets.tflite.metadata import TASK_ENTRY, require_labels, with_labels
from rexnet_export.targets.tflite.stamp import QUANTIZED, attach_ends, halve, stamp
from rexnet_export.targets.tflite.target import Tflite, TfliteSession, open_session

TFLITE = Tflite()
CONVERSIONS = {"QUANTIZE", "DEQUANTIZE"}

type Images = NDArray[np.uint8]
type Sources = Mapping[Precision, Source]
type Artifacts = Mapping[Precision, Artifact]


@pytest.fixture(scope="module")
def lowered_once(sources: Sources) -> Lowered:
    """The float graph."""
    return lower(onnx.load(sources["fp32"].float_onnx.path))


@pytest.fixture
def lowered(lowered_once: Lowered) -> Lowered:
    return copy.deepcopy(lowered_once)


@pytest.fixture(scope="module")
def artifacts(artifact_of: ArtifactOf) -> Artifacts:
    return {precision: artifact_of("tflite", precision, "plain") for precision in TFLITE.precisions}


def graph_of(artifact: Artifact) -> Graph:
    return read_graph(artifact.file.path)


def kinds(graph: Graph) -> Counter[str]:
    return Counter(graph.kind(operator) for operator in graph.operators)


def label_file(path: Path) -> bytes:
    with zipfile.ZipFile(path) as members:
        return members.read("labels.txt")


def rewritten(artifact: Artifact, graph: Graph, path: Path) -> Artifact:
    """The artifact with another graph before the same labels."""
    content = io.BytesIO(graph.written())
    with zipfile.ZipFile(content, "a") as members:
        members.writestr("labels.txt", label_file(artifact.file.path))
    path.write_bytes(content.getvalue())
    return replace(artifact, file=stored_file(path))


def test_int8_has_no_float_operator_and_no_transpose(artifacts: Artifacts, sources: Sources) -> None:
    graph = graph_of(artifacts["int8"])
    ops = Counter(node.op_type for node in onnx.load(sources["int8"].float_onnx.path).graph.node)
    found = kinds(graph)
    assert TFLITE.inspect(artifacts["int8"]).coverage.float_ops == ()
    assert found["CONV_2D"] + found["DEPTHWISE_CONV_2D"] == ops["Conv"] + 1  # that which appends the constant channel
    assert (found["LOGISTIC"], found["MUL"], found["ADD"]) == (ops["Sigmoid"], ops["Mul"], ops["Add"])
    assert (found["MEAN"], found["FULLY_CONNECTED"], found["RESHAPE"]) == (ops["GlobalAveragePool"], 1, 3)
    others = found.keys() - {"CONV_2D", "DEPTHWISE_CONV_2D", "LOGISTIC", "MUL", "ADD", "MEAN", "FULLY_CONNECTED"}
    assert others == {"RESHAPE", "PAD", "QUANTIZE", "DEQUANTIZE", "SOFTMAX"}
    first, *_, last, scores = map(graph.kind, graph.operators)
    assert (first, last, scores) == ("QUANTIZE", "DEQUANTIZE", "SOFTMAX")
    assert (found["QUANTIZE"], found["DEQUANTIZE"], found["SOFTMAX"]) == (1, 1, 1)


def test_coverage_counts_multiplications_and_float_operators(artifacts: Artifacts, sources: Sources) -> None:
    graph = onnx.load(sources["int8"].float_onnx.path).graph
    sizes = {value.name: [d.dim_value for d in value.type.tensor_type.shape.dim[1:]] for value in graph.value_info}
    sizes["logits"] = []
    weights = {tensor.name: math.prod(tensor.dims) for tensor in graph.initializer}
    wanted = sum(
        weights[node.input[1]] * math.prod(sizes[node.output[0]][1:])
        for node in graph.node
        if node.op_type in {"Conv", "Gemm"}
    )
    found = TFLITE.inspect(artifacts["int8"]).coverage
    assert found.total_macs == found.int8_macs == wanted
    for precision in ("fp16", "fp32"):
        in_float = TFLITE.inspect(artifacts[precision]).coverage
        assert (in_float.int8_macs, in_float.total_macs) == (0, found.total_macs)
        assert "stem (CONV_2D)" in in_float.float_ops
        assert not any(kind in entry for entry in in_float.float_ops for kind in CONVERSIONS)


def test_inputs_and_outputs_keep_the_contract(artifacts: Artifacts) -> None:
    for artifact in artifacts.values():
        graph = graph_of(artifact)
        (image,), ends = graph.subgraph.inputs, graph.subgraph.outputs
        assert (graph.name(image), graph.type(image), graph.shape(image)) == ("image", "UINT8", (1, 32, 32, 3))
        assert [(graph.name(end), graph.type(end), graph.shape(end)) for end in ends] == [
            ("probabilities", "FLOAT32", (1, 10)),
            ("logits", "FLOAT32", (1, 10)),
        ]
        (signature,) = graph.model.signatureDefs
        names = [entry.name for entry in (*signature.inputs, *signature.outputs)]
        assert names == [b"image", b"probabilities", b"logits"]


def test_int8_integers_are_the_tables(artifacts: Artifacts, sources: Sources) -> None:
    graph, table = graph_of(artifacts["int8"]), sources["int8"].table
    assert table
    indices = {graph.name(index): index for index in graph.indices()}
    model = onnx.load(sources["int8"].float_onnx.path)
    depthwise = {node.input[1] for node in model.graph.node for a in node.attribute if a.name == "group" and a.i > 1}
    compared = 0
    for tensor in model.graph.initializer:
        entry = table.tensors.get(tensor.name)
        if entry is None or entry.params is None:
            continue
        integers = entry.params.quantize(numpy_helper.to_array(tensor))
        if integers.ndim == 4:
            integers = integers.transpose((1, 2, 3, 0) if tensor.name in depthwise else (0, 2, 3, 1))
        stored = graph.values(indices[tensor.name])
        assert stored.dtype == (np.int32 if tensor.name.endswith(".bias") else np.int8)
        np.testing.assert_array_equal(stored, integers)
        axis = graph.tensor(indices[tensor.name]).quantization.quantizedDimension
        assert graph.shape(indices[tensor.name])[axis] == len(entry.params.scale)
        compared += 1
    appending = 1
    assert compared == 2 * (kinds(graph)["CONV_2D"] + kinds(graph)["DEPTHWISE_CONV_2D"] - appending + 1)


def test_int8_computes_the_same_integers_as_the_qdq_graph(
    artifacts: Artifacts, sources: Sources, images: Images, tmp_path: Path
) -> None:
    """Convolutions, SiLU, clamps and padding up to the first addition, whose rounding XNNPACK approximates: the same
    but for sums that lie between two integers."""
    graph, qdq_file = graph_of(artifacts["int8"]), sources["int8"].qdq_onnx
    assert qdq_file
    model = onnx.load(qdq_file.path)
    written = [node.output[0] for node in model.graph.node]
    before = [name for name in written[: written.index("features.4.residual")] if name.endswith(".q")]
    indices = {graph.name(index): index for index in graph.indices()}
    watched = [name for name in before if name.removesuffix(".q") in indices and name != "input.q"]
    assert {"stem.silu.q", "features.1.relu6.q", "features.4.residual.pad.q"} <= set(watched)
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.INT8, None) for name in watched)
    (image,) = graph.subgraph.inputs
    graph.set_signature({"image": int(image)}, {name: indices[name.removesuffix(".q")] for name in watched})
    (tmp_path / "watched.tflite").write_bytes(graph.written())
    found = runner(tmp_path / "watched.tflite")(image=images[:1])
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    wanted = onnxruntime.InferenceSession(model.SerializeToString(), options).run(watched, {"image": images[:1]})
    between = watched[watched.index("features.2.depthwise.q") :]
    for name, integers in zip(watched, wanted, strict=True):
        apart = np.abs(np.int32(found[name]) - integers.transpose(0, 2, 3, 1))
        assert apart.max() <= (name in between), name
        assert np.mean(apart) < 0.002, name


def runner(path: Path) -> Callable[..., Mapping[str, NDArray[np.generic]]]:
    """LiteRT on any signature, with the XNNPACK kernels."""
    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    call: Callable[..., Mapping[str, NDArray[np.generic]]] = interpreter.get_signature_runner()
    return call


def halved(path: Path, copied: Path) -> Path:
    """A copy of a float ONNX file with its parameters rounded to float16."""
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name.endswith((".weight", ".bias")):
            rounded = numpy_helper.to_array(tensor).astype(np.float16).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(rounded, tensor.name))
    onnx.save(model, copied)
    return copied


def test_logits_agree_with_the_onnx_graphs(
    artifacts: Artifacts, sources: Sources, images: Images, tmp_path: Path
) -> None:
    plain = np.zeros((2, *images.shape[1:]), np.uint8)
    plain[1] = 255  # an even picture shows any fault of the border
    shown = np.concatenate([images, plain])
    float_logits = logits_of(sources["fp32"].float_onnx.path, shown)
    reach = np.abs(float_logits).max()
    single = TFLITE.open(artifacts["fp32"]).run(shown)
    np.testing.assert_allclose(single, float_logits, rtol=0, atol=1e-5 * reach)
    half = TFLITE.open(artifacts["fp16"]).run(shown)
    halved_logits = logits_of(halved(sources["fp32"].float_onnx.path, tmp_path / "halved.onnx"), shown)
    np.testing.assert_allclose(half, halved_logits, rtol=0, atol=1e-5 * reach)
    assert np.abs(half - float_logits).max() > 1e-4 * reach
    source = sources["int8"]
    assert source.qdq_onnx
    assert source.table
    params = source.table.tensors["logits"].params
    assert params
    steps = (TFLITE.open(artifacts["int8"]).run(shown) - logits_of(source.qdq_onnx.path, shown)) / params.scale[0]
    assert np.abs(steps - np.rint(steps)).max() < 1e-3
    assert np.abs(steps).mean() < 3


def test_batches_keep_the_order_of_the_images(artifacts: Artifacts, images: Images) -> None:
    session = open_session(artifacts["int8"].file.path)
    alone = np.concatenate([session.run(image[None]) for image in images])
    assert len(np.unique(alone, axis=0)) > len(images) // 2
    for count in (1, 2, 3, len(images)):
        np.testing.assert_array_equal(session.run(images[:count]), alone[:count])


@pytest.mark.parametrize(
    "other",
    [np.zeros((1, 32, 32, 3), np.float32), np.zeros((1, 64, 64, 3), np.uint8), np.zeros((0, 32, 32, 3), np.uint8)],
    ids=["float", "size", "none"],
)
def test_other_images_are_refused(artifacts: Artifacts, other: Images) -> None:
    session: TfliteSession = open_session(artifacts["int8"].file.path)
    with pytest.raises(DataError, match=r"uint8 images \[n, 32, 32, 3\]"):
        session.run(other)


def test_opening_is_silent(artifacts: Artifacts) -> None:
    """In a new process, since LiteRT announces its delegate once."""
    script = (
        "import sys; from pathlib import Path; from rexnet_export.targets.tflite.target import open_session; "
        "open_session(Path(sys.argv[1])); sys.stderr.write('still there')"
    )
    command = [sys.executable, "-P", "-c", script, str(artifacts["int8"].file.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "still there")


def test_half_precision_expands_every_parameter(artifacts: Artifacts) -> None:
    graph = graph_of(artifacts["fp16"])
    parameters = [i for i in graph.indices() if graph.name(i).endswith((".weight", ".bias"))]
    assert {graph.type(index) for index in parameters} == {"FLOAT16"}
    assert kinds(graph)["DEQUANTIZE"] == len(parameters) + 1
    assert artifacts["fp16"].file.bytes < 0.6 * artifacts["fp32"].file.bytes


def test_half_precision_refuses_what_it_cannot_hold(lowered: Lowered) -> None:
    parameter = lowered.parameters["stem.bias"]
    lowered.graph.set_values(parameter.index, np.full_like(parameter.values, 70000))
    with pytest.raises(ConversionError, match=r"stem\.bias exceeds float16's 65504"):
        halve(lowered)


def test_versions_and_alignment_suit_native_readers(artifacts: Artifacts) -> None:
    graph, content = graph_of(artifacts["int8"]), artifacts["int8"].file.path.read_bytes()
    versions = {graph.kind(o): graph.model.operatorCodes[o.opcodeIndex].version for o in graph.operators}
    assert (versions["CONV_2D"], versions["ADD"], versions["FULLY_CONNECTED"], versions["RESHAPE"]) == (3, 2, 4, 1)
    weights = [graph.values(i).tobytes() for i in graph.indices() if graph.name(i).endswith("project.weight")]
    assert weights
    assert all(content.find(weight) % 16 == 0 for weight in weights)


def test_the_standard_metadata_names_input_output_and_labels(artifacts: Artifacts, sources: Sources) -> None:
    for artifact in artifacts.values():
        content = graph_of(artifact).metadata(TASK_ENTRY)
        assert content
        assert content[4:8] == b"M001"
        model = root(content)
        assert text(model, 0) == "rexnet_050"
        assert text(model, 1) == f"rexnet_050, {artifact.precision}: image classifier with 10 classes."
        assert text(model, 2) == sources["int8"].card.checkpoint_sha256[:12]
        assert (text(model, 4), text(model, 5)) == ("rexnet-export", LICENSE)
        subgraph = tables(model, 3)[0]
        (image,), ends = tables(subgraph, 2), tables(subgraph, 3)
        assert (text(image, 0), *(text(end, 0) for end in ends)) == ("image", "probabilities", "logits")
        normalization = table_at(tables(image, 4)[0], 1)
        assert (floats(normalization, 0), floats(normalization, 1)) == ([0.0], [1.0])
        assert [text(tables(end, 6)[0], 0) for end in ends] == ["labels.txt", "labels.txt"]
        assert label_file(artifact.file.path).decode().splitlines() == list(sources["int8"].card.labels)


def root(content: bytes) -> flatbuffers.table.Table:
    return flatbuffers.table.Table(bytearray(content), struct.unpack_from("<I", content)[0])


def place(table: flatbuffers.table.Table, number: int) -> int:
    offset = table.Offset(4 + 2 * number)
    assert offset, f"no field {number}"
    return int(offset)


def text(table: flatbuffers.table.Table, number: int) -> str:
    return str(table.String(table.Pos + place(table, number)).decode())


def table_at(table: flatbuffers.table.Table, number: int) -> flatbuffers.table.Table:
    return flatbuffers.table.Table(table.Bytes, table.Indirect(table.Pos + place(table, number)))


def tables(table: flatbuffers.table.Table, number: int) -> list[flatbuffers.table.Table]:
    start, count = table.Vector(place(table, number)), table.VectorLen(place(table, number))
    return [flatbuffers.table.Table(table.Bytes, table.Indirect(start + 4 * index)) for index in range(count)]


def floats(table: flatbuffers.table.Table, number: int) -> list[float]:
    start, count = table.Vector(place(table, number)), table.VectorLen(place(table, number))
    return [struct.unpack_from("<f", table.Bytes, start + 4 * index)[0] for index in range(count)]


def test_a_label_of_two_lines_is_refused(sources: Sources, lowered: Lowered, tmp_path: Path) -> None:
    card = replace(sources["fp32"].card, labels=("a\nb", *sources["fp32"].card.labels[1:]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tflite, "lower", lambda _: lowered)
        with pytest.raises(ConversionError, match="is not one line of text"):
            TFLITE.convert(replace(sources["fp32"], card=card), tmp_path, "two")
    assert not list(tmp_path.iterdir())


def test_int8_needs_a_table_of_every_tensor(sources: Sources, lowered: Lowered, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="needs a quantization table"):
        TFLITE.convert(replace(sources["int8"], table=None), tmp_path, "none")
    table = sources["int8"].table
    assert table
    without = replace(table, tensors={name: entry for name, entry in table.tensors.items() if name != "stem"})
    with pytest.raises(ConversionError, match="stem is not in the table"):
        stamp(lowered, without)


@pytest.mark.parametrize("fault", ["scale", "integer", "missing", "extra"])
def test_a_file_that_is_not_the_table_is_refused(
    fault: str, sources: Sources, lowered: Lowered, tmp_path: Path
) -> None:
    def spoiled(ended: Lowered, outputs: Sequence[str]) -> None:
        attach_ends(ended, outputs)
        graph, index = ended.graph, ended.activations["stem"]
        parameter = ended.parameters["stem.weight"]
        match fault:
            case "scale":
                graph.tensor(index).quantization.scale = np.nextafter(graph.tensor(index).quantization.scale, np.inf)
            case "integer":
                graph.set_values(parameter.index, graph.values(parameter.index) ^ np.int8(1))
            case "missing":
                graph.tensor(index).quantization = None
            case "extra":
                graph.tensor(index).name = b"another"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tflite, "lower", lambda _: lowered)
        patch.setattr(tflite, "attach_ends", spoiled)
        with pytest.raises(ConversionError, match=r"(stem|another)"):
            TFLITE.convert(sources["int8"], tmp_path, "spoiled")


@pytest.mark.slow
def test_lite_lowers_to_fused_clamps(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = float_graph(ReXNet(architecture("lite", 0.5, classes=3, stages=SHORT)).eval(), Preprocess(size=32))
    ready = lower(model)
    attach_ends(ready, ["probabilities", "logits"])
    found = kinds(ready.graph)
    assert not found.keys() & {"RELU6", "TRANSPOSE", "LOGISTIC"}
    clamped = [o for o in ready.graph.operators if ready.graph.activation(o) == "RELU6"]
    assert len(clamped) == sum(node.op_type == "Clip" for node in model.graph.node)
    path = tmp_path / "lite.tflite"
    path.write_bytes(ready.graph.written())
    images = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    onnx.save(model, tmp_path / "lite.onnx")
    wanted = logits_of(tmp_path / "lite.onnx", images)
    np.testing.assert_allclose(runner(path)(image=images)["logits"], wanted, rtol=1e-5, atol=1e-6)


def test_the_onnx_file_is_left_alone(sources: Sources, lowered_once: Lowered) -> None:
    assert lowered_once.graph
    assert file_sha256(sources["fp32"].float_onnx.path) == sources["fp32"].float_onnx.sha256


def core_of(sources: Sources) -> onnx.ModelProto:
    return core_graph(onnx.load(sources["fp32"].float_onnx.path))


def test_other_weights_than_the_graphs_are_noticed(sources: Sources, lowered: Lowered) -> None:
    core = core_of(sources)
    (bias,) = (tensor for tensor in core.graph.initializer if tensor.name == "features.3.squeeze.bias")
    values = numpy_helper.to_array(bias).copy()
    values[0] = np.nextafter(values[0], np.float32(np.inf))
    bias.CopyFrom(numpy_helper.from_array(values, bias.name))
    with pytest.raises(ConversionError, match=r"Conv features\.3\.squeeze has 0 counterparts"):
        matched(core, lowered.graph)


def test_a_clamp_that_nobody_asked_for_is_noticed(sources: Sources, lowered: Lowered) -> None:
    graph = lowered.graph
    (add,) = (o for o in graph.operators if graph.name(o.outputs[0]) == "features.4.residual")
    add.builtinOptions.fusedActivationFunction = 1
    with pytest.raises(ConversionError, match=r"ADD features\.4\.residual with activation RELU,"):
        matched(core_of(sources), graph)


@pytest.mark.usefixtures("fresh_onnx2tf")
def test_a_failing_onnx2tf_names_its_log(sources: Sources, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\necho it broke\nexit 3\n")
    tool.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tool))
    monkeypatch.setattr(tflite_onnx2tf.tempfile, "tempdir", str(tmp_path))
    with pytest.raises(ConversionError, match=r"ended with code 3 .* in (\S+)$"):
        lower(onnx.load(sources["fp32"].float_onnx.path))
    (log,) = tmp_path.glob("*.log")
    assert log.read_text() == "it broke\n"


def test_a_missing_toolchain_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    with pytest.raises(TargetUnavailable, match=r"needs onnx2tf; run: .*(?:\[|--extra )convert\b.*"):
        TFLITE.require()


def test_foreign_and_damaged_files_are_refused(artifacts: Artifacts, tmp_path: Path) -> None:
    artifact, path = artifacts["int8"], tmp_path / "other.tflite"
    path.write_bytes(b"\0\0\0\0ONNX" + bytes(100))
    with pytest.raises(ConversionError, match="is not a TFLite model"):
        read_graph(path)
    with pytest.raises(ConversionError, match="cannot read"):
        read_graph(tmp_path / "absent.tflite")
    content = artifact.file.path.read_bytes()
    for length in (8, 100, len(content) // 3, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(ConversionError, match="export the model again"):
            open_session(path)
    graph = graph_of(artifact)
    graph.subgraph.outputs = graph.subgraph.inputs
    with pytest.raises(ConversionError, match="was not exported here"):
        open_session(rewritten(artifact, graph, path).file.path)


@pytest.mark.parametrize("fault", ["index", "constant"])
def test_offsets_that_a_runtime_would_trust_are_checked(fault: str, artifacts: Artifacts, tmp_path: Path) -> None:
    graph, path = graph_of(artifacts["int8"]), tmp_path / "bad.tflite"
    operator = next(o for o in graph.operators if graph.kind(o) == "CONV_2D")
    if fault == "constant":
        graph.tensor(operator.inputs[1]).shape = np.asarray(graph.shape(operator.inputs[1]), np.int32) * 2
        content = graph.written()
    else:
        graph.model.signatureDefs = None
        content = graph.written()
        inputs = np.asarray(operator.inputs, "<i4").tobytes()
        assert content.count(inputs) == 1
        content = content.replace(inputs, np.asarray([9999, *operator.inputs[1:]], "<i4").tobytes())
    path.write_bytes(content)
    with pytest.raises(ConversionError, match="damaged or incomplete"):
        read_graph(path)


def test_a_file_without_our_description_is_refused(artifacts: Artifacts, tmp_path: Path) -> None:
    graph = graph_of(artifacts["int8"])
    for entries, reason in (({}, "has no"), ({"rexnet_export": b"{"}, "damaged"), ({"rexnet_export": b"[]"}, "no map")):
        graph.set_metadata(entries)
        other = rewritten(artifacts["int8"], graph, tmp_path / "other.tflite")
        with pytest.raises(ConversionError, match=reason):
            _ = TFLITE.inspect(other).metadata


def test_the_quantized_logits_are_told_apart(artifacts: Artifacts, sources: Sources) -> None:
    graph, table = graph_of(artifacts["int8"]), sources["int8"].table
    names = [graph.name(index) for index in graph.indices()]
    assert f"logits{QUANTIZED}" in names
    assert table
    assert TFLITE.inspect(artifacts["int8"]).qparams["logits"] == table.tensors["logits"].params
    assert TFLITE.inspect(artifacts["fp32"]).qparams == {}


@pytest.mark.parametrize("precision", ["int8", "fp16", "fp32"])
def test_four_images_at_once_give_what_each_gives_alone(
    artifacts: Artifacts, images: NDArray[np.uint8], precision: Precision
) -> None:
    path, four = str(artifacts[precision].file.path), images[:4]
    alone = TFLITE.open(artifacts[precision]).run(four)
    interpreter = Interpreter(model_path=path, num_threads=1)
    interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], four.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], four)
    interpreter.invoke()
    outputs = {output["name"]: output["index"] for output in interpreter.get_output_details()}
    together = interpreter.get_tensor(outputs["logits"])
    assert together.shape == alone.shape
    tolerance = 0.0 if precision == "int8" else 1e-5
    np.testing.assert_allclose(together, alone, rtol=tolerance, atol=tolerance)


def test_the_value_of_the_constant_channel_is_a_scalar(artifacts: Artifacts) -> None:
    """Runtimes other than LiteRT read no list of one number there."""
    for precision in ("fp16", "fp32"):
        graph = graph_of(artifacts[precision])
        (pad,) = (operator for operator in graph.operators if graph.kind(operator) == "PADV2")
        assert graph.shape(pad.inputs[2]) == ()


@pytest.mark.parametrize("labels", [("a",), ("b", "a"), ("a", "b", "c"), ("x" * 2**20,) * 16], ids=len)
def test_a_label_file_must_name_the_classes_of_the_metadata(
    artifacts: Artifacts, sources: Sources, tmp_path: Path, labels: tuple[str, ...]
) -> None:
    """A task library shows the label file, and everything here shows the metadata."""
    artifact, card = artifacts["int8"], sources["int8"].card
    described = TFLITE.inspect(artifact).metadata
    require_labels(artifact.file.path, described)
    other = tmp_path / "other.tflite"
    other.write_bytes(with_labels(graph_of(artifact).written(), replace(card, labels=labels)))
    with pytest.raises(ConversionError, match=r"other\.tflite: labels\.txt is not what its labels are"):
        require_labels(other, described)
    with pytest.raises(ConversionError, match="labels"):
        open_session(other)
