"""ONNX Runtime files: what they compute in, what they say, and what happens to damaged ones."""

import math
import platform
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import util
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from depths import SHORT
from graphs import logits_of, signal_to_noise
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from rexnet_export.pipeline.artifact.target import Source, is_emulated
from rexnet_export.pipeline.core.errors import ConversionError, DataError, ExportError, TargetUnavailable
from rexnet_export.pipeline.core.records import Artifact, Coverage, Precision, stored_file
from rexnet_export.pipeline.model.architecture import architecture
from rexnet_export.quantization.calibration.observe import observe
from rexnet_export.quantization.scheme.insert_qdq import Integers, insert_qdq
from rexnet_export.quantization.scheme.scheme import decide, observed_tensors
from rexnet_export.quantization.table.table import Calibration
from rexnet_export.targets.ort import format as ort_format
from rexnet_export.targets.ort import session
from rexnet_export.targets.ort.canonical import canonical
from rexnet_export.targets.ort.session import WORKERS, open_session, optimized
from rexnet_export.targets.ort.target import X86, Ort

ORT = Ort()

type Images = NDArray[np.uint8]
type Sources = Mapping[Precision, Source]


@pytest.fixture(scope="module")
def int8(sources: Sources, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return ORT.convert(sources["int8"], tmp_path_factory.mktemp("int8"), "tiny-int8")


@pytest.fixture(scope="module")
def fp32(sources: Sources, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return ORT.convert(sources["fp32"], tmp_path_factory.mktemp("fp32"), "tiny-fp32")


def files(artifact: Artifact) -> dict[str, Artifact]:
    """Every model file of an INT8 artifact, each as an artifact of its own."""
    models = [artifact.file, *artifact.presets.values(), *artifact.companions]
    return {file.path.name: replace(artifact, file=file) for file in models if file.path.suffix != ".config"}


def qdq_path(sources: Sources) -> Path:
    assert sources["int8"].qdq_onnx
    return sources["int8"].qdq_onnx.path


@pytest.mark.parametrize(
    ("machine", "loses_sums", "emulated"),
    [
        ("x86_64", False, {"tiny-int8.ort"}),
        ("x86_64", True, {"tiny-int8.ort", "tiny-int8-vnni.onnx"}),
        ("aarch64", False, set()),
        ("arm64", False, set()),
    ],
)
def test_files_for_other_processors_are_emulated_and_that_for_npus_on_any(
    int8: Artifact,
    fp32: Artifact,
    machine: str,
    loses_sums: bool,  # noqa: FBT001 - a parameter of the test
    emulated: set[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(session, "saturates", lambda: loses_sums)
    every = files(int8) | files(fp32)
    assert len(every) == 8
    assert {name for name, file in every.items() if is_emulated(ORT.open(file))} == {"tiny-int8-npu.onnx", *emulated}


def test_int8_files_have_the_promised_names(int8: Artifact) -> None:
    assert {path.name for path in int8.file.path.parent.iterdir()} == {
        "tiny-int8.ort",
        "tiny-int8.onnx",
        "tiny-int8-x86.onnx",
        "tiny-int8-x86.ort",
        "tiny-int8-vnni.onnx",
        "tiny-int8-npu.onnx",
        "tiny-int8.required_operators_and_types.config",
    }
    assert int8.file.path.name == "tiny-int8.ort"
    assert int8.presets[X86].path.name == "tiny-int8-x86.ort"


def test_every_multiplication_is_int8_in_every_file(sources: Sources, int8: Artifact) -> None:
    macs = multiplications(sources["int8"].float_onnx.path)
    for name, artifact in files(int8).items():
        assert ORT.inspect(artifact).coverage == Coverage(int8_macs=macs, total_macs=macs, float_ops=()), name


def multiplications(path: Path) -> int:
    """Of one image, from the float graph's own shapes: outputs times weights per output channel."""
    graph = onnx.load(path).graph
    sizes = {value.name: value.type.tensor_type.shape.dim for value in (*graph.value_info, *graph.output)}
    weights = {tensor.name: tensor.dims for tensor in graph.initializer}
    return sum(
        math.prod(dim.dim_value for dim in sizes[node.output[0]][1:]) * math.prod(weights[node.input[1]][1:])
        for node in graph.node
        if node.op_type in {"Conv", "Gemm"}
    )


def test_every_convolution_is_one_integer_convolution(sources: Sources, int8: Artifact) -> None:
    convolutions = sum(node.op_type == "Conv" for node in onnx.load(sources["fp32"].float_onnx.path).graph.node)
    for file in (int8.file, int8.presets[X86]):
        ops = [node.op for node in ort_format.parse(file.path.read_bytes()).nodes]
        assert ops.count("QLinearConv") == convolutions
        assert {op for op in ops if "Conv" in op} == {"QLinearConv"}


def test_arm_file_computes_in_signed_and_x86_file_in_unsigned_integers(int8: Artifact) -> None:
    for file, element, dtype in (
        (int8.file, TensorProto.INT8, np.int8),
        (int8.presets[X86], TensorProto.UINT8, np.uint8),
    ):
        graph = ort_format.parse(file.path.read_bytes())
        outputs = {graph.types[node.outputs[0]] for node in graph.nodes if node.op.startswith("QLinear")}
        assert outputs == {element}, file.path.name
        weights = {graph.constants[node.inputs[3]].dtype for node in graph.nodes if node.op in {"QLinearConv", "QGemm"}}
        assert weights == {np.dtype(dtype)}, file.path.name


def test_every_file_stores_the_table(sources: Sources, int8: Artifact) -> None:
    assert sources["int8"].table
    table = {name: entry.params for name, entry in sources["int8"].table.tensors.items() if entry.params is not None}
    for name, artifact in files(int8).items():
        assert ORT.inspect(artifact).qparams == table, name


def test_a_float_island_is_named(sources: Sources, int8: Artifact, tmp_path: Path) -> None:
    model = onnx.load(qdq_path(sources))
    for node in model.graph.node:
        for position, name in enumerate(node.input):
            if name == "stem.sigmoid.dq":
                node.input[position] = "stem.sigmoid"
    onnx.save(model, tmp_path / "island.onnx")
    found = ORT.inspect(replace(int8, file=stored_file(tmp_path / "island.onnx"))).coverage
    assert found.int8_mac_fraction == 1.0
    assert any("Sigmoid" in op or "Gelu" in op for op in found.float_ops)


def test_a_float_convolution_is_not_called_int8(sources: Sources, tmp_path: Path) -> None:
    model = onnx.load(qdq_path(sources))
    floats = onnx.load(sources["fp32"].float_onnx.path).graph.initializer
    model.graph.initializer.extend(t for t in floats if t.name == "features.1.depthwise.weight")
    for node in model.graph.node:
        for position, name in enumerate(node.input):
            if name == "features.1.depthwise.weight.dq":
                node.input[position] = "features.1.depthwise.weight"
    onnx.save(model, tmp_path / "island.onnx")
    source = replace(sources["int8"], qdq_onnx=stored_file(tmp_path / "island.onnx"))
    with pytest.raises(ConversionError, match=r"small.ort is called INT8, but .*features.1.depthwise"):
        ORT.convert(source, tmp_path, "small")


def test_float32_file_is_all_float(fp32: Artifact) -> None:
    for file in (fp32.file, fp32.presets[X86]):
        found = ORT.inspect(replace(fp32, file=file)).coverage
        assert (found.int8_macs, found.total_macs) == (0, ORT.inspect(fp32).coverage.total_macs)
        assert any(op.startswith("features.1.depthwise (") for op in found.float_ops)
    assert ORT.inspect(fp32).qparams == {} or set(ORT.inspect(fp32).qparams) == {"input"}


def test_logits_follow_the_float_network(sources: Sources, images: Images, int8: Artifact, fp32: Artifact) -> None:
    expected = logits_of(sources["fp32"].float_onnx.path, images)
    for file in (fp32.file, fp32.presets[X86]):
        assert signal_to_noise(expected, open_session(file.path).run(images)) > 60, file.path.name
    # Untrained and 75 convolutions deep, the network makes much of every rounding: 13 dB here, none at all if one
    # scale or zero point is off.
    expected = logits_of(qdq_path(sources), images)
    for name, artifact in files(int8).items():
        assert signal_to_noise(expected, ORT.open(artifact).run(images)) > 8, name


def test_results_keep_the_order_of_the_images(int8: Artifact, fp32: Artifact, images: Images) -> None:
    assert len(images) > 8 * WORKERS
    for artifact in (int8, replace(fp32, file=fp32.presets[X86])):
        session = ORT.open(artifact)
        one_by_one = np.concatenate([session.run(image[None]) for image in images])
        np.testing.assert_allclose(session.run(images), one_by_one, rtol=0, atol=1e-5)


def test_the_session_says_what_executes(int8: Artifact) -> None:
    assert ORT.open(int8).executed_by == f"ONNX Runtime {onnxruntime.__version__}"


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((1, 64, 64, 3), np.uint8),
        np.zeros((1, 3, 32, 32), np.uint8),
        np.zeros((1, 32, 32, 3), np.float32),
        np.zeros((0, 32, 32, 3), np.uint8),
        np.zeros((32, 32, 3), np.uint8),
    ],
    ids=["size", "layout", "type", "none", "rank"],
)
def test_other_images_are_refused(int8: Artifact, wrong: NDArray[np.generic]) -> None:
    with pytest.raises(DataError, match=r"uint8 images \[n, 32, 32, 3\]"):
        ORT.open(int8).run(wrong)


def test_operator_list_is_of_the_arm_file_and_names_no_folder(int8: Artifact) -> None:
    text = next(file.path for file in int8.companions if file.path.suffix == ".config").read_text()
    assert "# - tiny-int8.ort\n" in text
    assert str(int8.file.path.parent) not in text
    assert "QLinearConv" in text
    assert '"int8_t"' in text


def test_onnx_files_stay_valid_onnx(int8: Artifact) -> None:
    for path in sorted(int8.file.path.parent.glob("*.onnx")):
        model = onnx.load(path)
        onnx.checker.check_model(model, full_check=True)
        assert "int8: image classifier with 10 classes." in model.doc_string
        assert model.producer_name == "rexnet-export"
        batch = model.graph.input[0].type.tensor_type.shape.dim[0]
        assert (batch.dim_param, batch.dim_value) == (("", 1) if "npu" in path.name else ("batch", 0))


def test_canonical_form_is_reached_at_once(int8: Artifact) -> None:
    content = int8.file.path.read_bytes()
    assert canonical(content) == content


def cuts(path: Path) -> list[int]:
    length = path.stat().st_size
    return [0, 3, 8, 20, 100, length // 3, length // 2, length - 4096, length - 64, length - 1]


def test_truncated_files_are_refused(int8: Artifact, tmp_path: Path) -> None:
    for name, artifact in files(int8).items():
        for length in cuts(artifact.file.path):
            cut = tmp_path / name
            cut.write_bytes(artifact.file.path.read_bytes()[:length])
            damaged = replace(artifact, file=stored_file(cut))
            with pytest.raises(ConversionError):
                ORT.open(damaged)
            for part in ("coverage", "qparams", "metadata"):
                with pytest.raises(ConversionError):
                    getattr(ORT.inspect(damaged), part)


def test_damaged_bytes_never_crash(int8: Artifact, tmp_path: Path) -> None:
    draw, content = random.Random(0), int8.file.path.read_bytes()  # noqa: S311
    outcomes = set()
    for _ in range(40):
        damaged = bytearray(content)
        for _ in range(20):
            damaged[draw.randrange(len(content) // 8)] = draw.randrange(256)
        (tmp_path / "damaged.ort").write_bytes(damaged)
        artifact = replace(int8, file=stored_file(tmp_path / "damaged.ort"))
        for use in (ORT.open, lambda it: ORT.inspect(it).coverage, lambda it: ORT.inspect(it).qparams):
            try:
                use(artifact)
                outcomes.add("opened")
            except ExportError:
                outcomes.add("refused")
    assert "refused" in outcomes


@pytest.mark.parametrize("suffix", [".ort", ".onnx"])
def test_missing_and_foreign_files_are_refused(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(ConversionError, match="cannot read"):
        open_session(tmp_path / f"none{suffix}")
    (tmp_path / f"text{suffix}").write_text("this is no model " * 8)
    with pytest.raises(ConversionError):
        open_session(tmp_path / f"text{suffix}")


def test_a_model_with_another_interface_is_refused(tmp_path: Path) -> None:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "other", [x], [y])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), tmp_path / "o.onnx")
    with pytest.raises(ConversionError, match="not exported here"):
        open_session(tmp_path / "o.onnx")


def test_a_model_with_our_interface_and_no_weights_is_refused(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["image"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["real"], ["row"]),
        helper.make_node("Transpose", ["row"], ["column"], perm=[1, 0]),
        helper.make_node("MatMul", ["row", "column"], ["logits"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, [1, 32, 32, 3])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 1])
    model = helper.make_model(helper.make_graph(nodes, "foreign", [image], [logits]), ir_version=10)
    onnx.save(model, tmp_path / "foreign.onnx")
    foreign = Artifact(target="ort", precision="int8", file=stored_file(tmp_path / "foreign.onnx"))
    assert ORT.inspect(foreign).parameters == ORT.inspect(foreign).qparams == {}
    with pytest.raises(ConversionError, match=r"foreign.onnx computes what our files store"):
        _ = ORT.inspect(foreign).coverage


def test_int8_without_a_table_is_refused(sources: Sources, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="calibrate"):
        ORT.convert(replace(sources["fp32"], precision="int8"), tmp_path, "x")


def test_without_onnxruntime_the_command_that_mends_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rexnet_export.targets.ort.target.find_spec", lambda _: None)
    assert util.find_spec("onnxruntime")
    with pytest.raises(TargetUnavailable, match=r"run: .*install .*onnxruntime"):
        ORT.require()


def test_nothing_reaches_the_terminal(
    sources: Sources, int8: Artifact, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ORT.convert(sources["int8"], tmp_path, "quiet")
    (tmp_path / "cut.ort").write_bytes(int8.file.path.read_bytes()[:4096])
    with pytest.raises(ConversionError):
        open_session(tmp_path / "cut.ort")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("integers", ["int8", "uint8"])
def test_sums_of_the_largest_integers_do_not_saturate(integers: Integers, tmp_path: Path) -> None:
    """Weights of ±127 and pixels of 255: x86 without VNNI would cut two such products, of uint8 and int8, to 32767."""
    model = onnx.parser.parse_model("""
        <ir_version: 10, opset_import: ["": 21]>
        sums (uint8[batch, 4, 4, 3] image) => (float[batch, 16] logits)
        <float pixel = {0.00392157}, uint8 zero = {0}, float[16] bias = {0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0}> {
            planes = Transpose <perm = [0, 3, 1, 2]> (image)
            input = DequantizeLinear(planes, pixel, zero)
            stem = Conv(input, weights, bias)
            pool = GlobalAveragePool(stem)
            logits = Flatten(pool)
        }""")
    weights = np.tile(np.float32([[1.0], [-1.0]]), (8, 3))[:, :, None, None]
    model.graph.initializer.append(numpy_helper.from_array(weights, "weights"))
    onnx.save(onnx.shape_inference.infer_shapes(model), tmp_path / "sums.onnx")
    white = np.full((2, 4, 4, 3), 255, np.uint8)
    statistics = observe(tmp_path / "sums.onnx", [white], observed_tensors(model))
    calibration = Calibration(images_sha256="0" * 64, images=2, statistic="min-max", seed=0)
    onnx.save(insert_qdq(model, decide(model, statistics, calibration), integers), tmp_path / "sums-int8.onnx")
    optimized(tmp_path / "sums-int8.onnx", tmp_path / "sums.ort")
    assert "QLinearConv" in {node.op for node in ort_format.parse((tmp_path / "sums.ort").read_bytes()).nodes}
    for path in (tmp_path / "sums.ort", tmp_path / "sums-int8.onnx"):
        np.testing.assert_allclose(open_session(path).run(white), np.tile([3.0, -3.0], (2, 8)), atol=6 / 255)


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_a_bias_that_equals_another_constant_keeps_its_name(
    sources_of: Callable[..., Sources], tmp_path: Path, precision: Precision
) -> None:
    """Of equal constants of at most 8 values ONNX Runtime keeps one, under the name of any."""
    source = sources_of(architecture(width=0.1, classes=2, stages=SHORT), zero_bias=True)[precision]
    artifact = ORT.convert(source, tmp_path, "zero")
    constants = {tensor.name for tensor in onnx.load(source.float_onnx.path).graph.initializer}
    for each in files(artifact).values():
        found = ORT.inspect(each).parameters
        assert found.keys() == {name for name in constants if name.endswith((".weight", ".bias"))}
        assert not found["logits.bias"].any()
        if source.table is not None:
            assert ORT.inspect(each).qparams.keys() >= {"logits.bias", "stem.bias"}
