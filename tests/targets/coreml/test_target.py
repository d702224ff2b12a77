"""Core ML packages: what is promised to an application, and what the file on disk holds."""

import json
import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
import onnx
import pytest
from coremltools.converters.mil import Builder
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from shared import ArtifactOf

from rexnet_export.pipeline.artifact.metadata import card_from
from rexnet_export.pipeline.artifact.target import Source, is_emulated
from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.records import Artifact, Precision, StoredFile, stored_file
from rexnet_export.pipeline.model.rexnet import ReXNet, cost
from rexnet_export.quantization.scheme.insert_qdq import insert_qdq
from rexnet_export.quantization.table.table import QuantTable, TensorEntry
from rexnet_export.targets.coreml import target as module
from rexnet_export.targets.coreml.builder import mil_name, onnx_name
from rexnet_export.targets.coreml.inspect import class_labels, stored_qparams
from rexnet_export.targets.coreml.interpreter import MilSession
from rexnet_export.targets.coreml.package import MANIFEST, MODEL, WEIGHTS, read_altered, read_package, seal
from rexnet_export.targets.coreml.target import CoreML

COREML = CoreML()

type Sources = Mapping[Precision, Source]
type Packages = Mapping[Precision, Artifact]


@pytest.fixture(scope="module")
def packages(artifact_of: ArtifactOf) -> Packages:
    return {precision: artifact_of("coreml", precision, "plain") for precision in COREML.precisions}


@pytest.mark.parametrize(("system", "needed"), [("darwin", ["coremltools"]), ("linux", ["coremltools", "torch"])])
def test_torch_is_asked_for_where_core_ml_is_not(
    system: str, needed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(module, "require_module", lambda name, _: asked.append(name))
    monkeypatch.setattr(module.sys, "platform", system)
    COREML.require()
    assert asked == needed


def test_what_the_interpreter_runs_is_emulated(packages: Packages) -> None:
    assert is_emulated(MilSession(read_package(packages["int8"].file.path)))


def test_a_package_that_is_inspected_is_not_read_again(packages: Packages, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    monkeypatch.setattr(module, "read_altered", lambda path: read.append(path) or read_altered(path))
    inspection = COREML.inspect(packages["int8"])
    assert inspection.qparams
    assert COREML.open(packages["int8"]).executed_by
    assert inspection.altered == []
    assert read == [packages["int8"].file.path]


def test_what_has_changed_since_it_was_opened_is_refused(packages: Packages, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(packages["int8"].file.path, tmp_path / "copy.mlpackage"))
    artifact = replace(packages["int8"], file=stored_file(copy))
    opened = COREML.open(artifact)
    weights = next(copy.rglob("weight.bin"))
    weights.write_bytes(weights.read_bytes() + b"0")
    assert opened.executed_by
    with pytest.raises(ConversionError, match="export"):
        COREML.open(artifact)


def table_of(sources: Sources) -> QuantTable:
    assert sources["int8"].table
    return sources["int8"].table


def qdq_of(sources: Sources) -> onnx.ModelProto:
    assert sources["int8"].qdq_onnx
    return onnx.load(sources["int8"].qdq_onnx.path)


def float_of(sources: Sources) -> onnx.ModelProto:
    return onnx.load(sources["fp32"].float_onnx.path)


def with_graph(source: Source, model: onnx.ModelProto, path: Path) -> Source:
    onnx.save(model, path)
    stored = stored_file(path)
    return replace(source, qdq_onnx=stored) if source.precision == "int8" else replace(source, float_onnx=stored)


def test_every_scale_and_zero_point_on_disk_is_the_tables(packages: Packages, sources: Sources) -> None:
    expected = {
        name: entry.params
        for name, entry in table_of(sources).tensors.items()
        if entry.params is not None and entry.params.bits == 8
    }
    assert COREML.inspect(packages["int8"]).qparams == expected
    assert {"input", "stem.weight", "features.3.gate", "features.4.residual.pad", "flatten", "logits"} <= set(expected)


def test_weights_on_disk_are_the_integers_of_the_qdq_graph(packages: Packages, sources: Sources) -> None:
    qdq = qdq_of(sources)
    integers = {tensor.name: numpy_helper.to_array(tensor) for tensor in qdq.graph.initializer}
    stored = [
        op for op in read_package(packages["int8"].file.path).operations if op.op_type == "constexpr_affine_dequantize"
    ]
    assert len(stored) == sum(name.endswith(".weight.q") for name in integers)
    for op in stored:
        np.testing.assert_array_equal(op.quantized_data.val, integers[f"{onnx_name(op.outputs[0].name)}.q"])


def test_float_files_store_no_quantization(packages: Packages) -> None:
    assert COREML.inspect(packages["fp16"]).qparams == {}


def test_int8_file_multiplies_only_integers(packages: Packages, sources: Sources, network: ReXNet) -> None:
    coverage = COREML.inspect(packages["int8"]).coverage
    size = sources["int8"].card.preprocess.size
    constant_channel = (size // 2) ** 2 * network.spec.stem * 9
    assert coverage.total_macs == cost(network.spec, size).macs + constant_channel
    assert (coverage.int8_mac_fraction, coverage.float_ops) == (1.0, ())


def test_float_file_counts_as_float(packages: Packages) -> None:
    coverage = COREML.inspect(packages["fp32"]).coverage
    assert coverage.int8_macs == 0
    assert {"stem (conv)", "stem.silu (silu)", "logits (linear)"} <= set(coverage.float_ops)


def test_a_float_convolution_is_named_and_not_called_int8(sources: Sources, network: ReXNet, tmp_path: Path) -> None:
    name = "features.1.expand.silu"
    tensors = {**table_of(sources).tensors, name: TensorEntry(decision="float", reason="kept for this test")}
    # The depthwise bias is an integer of the scale that is gone, so it and its weight stay float too.
    for parameter in ("features.1.depthwise.weight", "features.1.depthwise.bias"):
        tensors[parameter] = TensorEntry(decision="float", reason="its input is float")
    table = replace(table_of(sources), tensors=tensors)
    onnx.save(insert_qdq(float_of(sources), table), tmp_path / "qdq.onnx")
    source = replace(sources["int8"], qdq_onnx=stored_file(tmp_path / "qdq.onnx"))
    with pytest.raises(ConversionError, match=r"island.mlpackage is called INT8, but .*features.1.depthwise \(conv\)"):
        COREML.convert(source, tmp_path, "island")
    left = Artifact(target="coreml", precision="int8", file=stored_file(tmp_path / "island.mlpackage"))
    coverage = COREML.inspect(left).coverage
    assert coverage.float_ops == ("features.1.expand.silu (mul)", "features.1.depthwise (conv)")
    depthwise_pixels = (source.card.preprocess.size // 4) ** 2
    assert coverage.total_macs - coverage.int8_macs == depthwise_pixels * network.spec.blocks[1].expanded * 9


@pytest.mark.parametrize("precision", ["int8", "fp16", "fp32", "w8"])
def test_application_sees_an_image_classifier_with_logits(
    packages: Packages, sources: Sources, precision: Precision
) -> None:
    package = read_package(packages[precision].file.path)
    description = package.spec.description
    assert package.spec.specificationVersion == 8  # iOS 17
    image, card = description.input[0], sources[precision].card
    assert image.name == "image"
    assert [image.type.imageType.width, image.type.imageType.height] == [card.preprocess.size] * 2
    assert image.type.imageType.colorSpace == image.type.imageType.RGB
    outputs = {output.name: output.type for output in description.output}
    assert set(outputs) == {"classLabel", "classLabel_probs", "logits"}
    assert outputs["logits"].multiArrayType.shape == [1, len(card.labels)]
    assert outputs["logits"].multiArrayType.dataType == outputs["logits"].multiArrayType.FLOAT32
    assert class_labels(package) == card.labels
    assert card_from(package.metadata) == card
    assert package.metadata["precision"] == precision


def test_labels_used_twice_stay_apart(sources: Sources, tmp_path: Path) -> None:
    card = sources["fp32"].card
    labels = ("crane", "crane", *card.labels[2:])
    source = replace(sources["fp32"], card=replace(card, labels=labels))
    package = read_package(COREML.convert(source, tmp_path, "twice").file.path)
    assert class_labels(package) == ("crane (0)", "crane (1)", *card.labels[2:])
    assert card_from(package.metadata).labels == labels


def test_same_source_gives_the_same_bytes_and_nothing_else(
    packages: Packages, sources: Sources, tmp_path: Path
) -> None:
    again = COREML.convert(sources["int8"], tmp_path, "again")
    assert again.file.sha256 == packages["int8"].file.sha256
    assert [path.name for path in tmp_path.iterdir()] == ["again.mlpackage"]


def test_coremltools_itself_loads_the_package(packages: Packages) -> None:
    from coremltools.models import MLModel  # noqa: PLC0415

    loaded = MLModel(str(packages["int8"].file.path), skip_model_load=True)
    assert loaded.user_defined_metadata["model"] == "rexnet_050"


def test_conversion_is_silent_and_leaves_logging_as_it_was(
    sources: Sources, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    level = logging.getLogger("coremltools").level
    COREML.convert(sources["fp16"], tmp_path, "quiet")
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger("coremltools").level == level


def remove_weights(package: Path) -> None:
    (package / "Data" / WEIGHTS / "weight.bin").unlink()


def cut_weights(package: Path) -> None:
    weights = package / "Data" / WEIGHTS / "weight.bin"
    weights.write_bytes(weights.read_bytes()[:-100])


def flip_a_weight(package: Path) -> None:
    weights = package / "Data" / WEIGHTS / "weight.bin"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)


def cut_model(package: Path) -> None:
    model = package / "Data" / MODEL
    model.write_bytes(model.read_bytes()[:5000])


def edit_manifest(package: Path) -> None:
    manifest = json.loads((package / MANIFEST).read_text())
    manifest["rootModelIdentifier"] = "0" * 36
    (package / MANIFEST).write_text(json.dumps(manifest))


def break_manifest(package: Path) -> None:
    (package / MANIFEST).write_text("{")


def remove_everything(package: Path) -> None:
    shutil.rmtree(package)


@pytest.mark.parametrize(
    "damage",
    [remove_weights, cut_weights, flip_a_weight, cut_model, edit_manifest, break_manifest, remove_everything],
)
def test_damaged_package_is_one_clear_line(packages: Packages, tmp_path: Path, damage: Callable[[Path], None]) -> None:
    path = tmp_path / "damaged.mlpackage"
    shutil.copytree(packages["int8"].file.path, path)
    damage(path)
    artifact = Artifact(target="coreml", precision="int8", file=StoredFile(path=path, sha256="0" * 64, bytes=0))
    for part in ("qparams", "coverage"):
        with pytest.raises(ConversionError, match=r"damaged\.mlpackage .*export it again") as caught:
            getattr(COREML.inspect(artifact), part)
        assert "\n" not in str(caught.value)


def test_program_that_disagrees_with_its_weights_is_one_clear_line(packages: Packages, tmp_path: Path) -> None:
    path = tmp_path / "sealed.mlpackage"
    shutil.copytree(packages["int8"].file.path, path)
    spec = read_package(path).spec
    (path / "Data" / WEIGHTS / "weight.bin").write_bytes(b"\0" * 64)
    seal(path, spec)
    with pytest.raises(ConversionError, match=r"weight\.bin is no weight file of version 2"):
        read_package(path)


def test_quantize_and_dequantize_that_disagree_are_refused(packages: Packages, tmp_path: Path) -> None:
    path = tmp_path / "torn.mlpackage"
    shutil.copytree(packages["int8"].file.path, path)
    package = read_package(path)
    scale = next(op for op in package.operations if op.op_type == "quantize").scale.name
    (block,) = package.spec.mlProgram.functions["main"].block_specializations.values()
    constant = next(op for op in block.operations if op.outputs[0].name == scale)
    constant.attributes["val"].immediateValue.tensor.bytes.values = np.float16(0.5).tobytes()
    seal(path, package.spec)
    with pytest.raises(ConversionError, match="input is written with other parameters than it is read with"):
        stored_qparams(read_package(path))


def test_int8_needs_the_table_and_its_graph(sources: Sources, tmp_path: Path) -> None:
    source = replace(sources["int8"], table=None)
    with pytest.raises(ConversionError, match="quantization table"):
        COREML.convert(source, tmp_path, "none")


def test_table_that_is_not_the_graphs_is_refused(sources: Sources, tmp_path: Path) -> None:
    entry = table_of(sources).tensors["stem"]
    assert entry.params is not None
    other = replace(entry, params=replace(entry.params, zero_point=(entry.params.zero_point[0] + 1,)))
    table = replace(table_of(sources), tensors={**table_of(sources).tensors, "stem": other})
    with pytest.raises(ConversionError, match="other parameters for stem than the table"):
        COREML.convert(replace(sources["int8"], table=table), tmp_path, "other")


def test_unknown_operator_is_named(sources: Sources, tmp_path: Path) -> None:
    model = float_of(sources)
    model.graph.node[-1].CopyFrom(helper.make_node("Softplus", ["flatten"], ["logits"], "logits"))
    with pytest.raises(ConversionError, match="'logits' has operator Softplus"):
        COREML.convert(with_graph(sources["fp32"], model, tmp_path / "m.onnx"), tmp_path, "unknown")


def test_another_way_into_the_graph_is_refused(sources: Sources, tmp_path: Path) -> None:
    model = float_of(sources)
    scale = next(tensor for tensor in model.graph.initializer if tensor.name == "input.scale")
    scale.CopyFrom(numpy_helper.from_array(np.float32(1 / 255), "input.scale"))
    with pytest.raises(ConversionError, match="the graph starts with"):
        COREML.convert(with_graph(sources["fp32"], model, tmp_path / "m.onnx"), tmp_path, "other")


def test_uint8_activations_are_refused(sources: Sources, tmp_path: Path) -> None:
    model = insert_qdq(float_of(sources), table_of(sources), "uint8")
    with pytest.raises(ConversionError, match="int8 activations"):
        COREML.convert(with_graph(sources["int8"], model, tmp_path / "m.onnx"), tmp_path, "uint8")


def test_value_beyond_float16_is_named(sources: Sources, tmp_path: Path) -> None:
    model = float_of(sources)
    bias = next(tensor for tensor in model.graph.initializer if tensor.name == "stem.bias")
    bias.CopyFrom(numpy_helper.from_array(np.full(len(numpy_helper.to_array(bias)), 1e6, np.float32), "stem.bias"))
    with pytest.raises(ConversionError, match=r"stem\.bias holds 1e\+06, beyond float16; use --fp32"):
        COREML.convert(with_graph(sources["fp16"], model, tmp_path / "m.onnx"), tmp_path, "large")


@given(st.text(alphabet="ab._0", min_size=1, max_size=8))
def test_names_come_back_or_are_refused(name: str) -> None:
    try:
        spelled = mil_name(name)
    except ConversionError:
        assert "__" in name or "_." in name or "._" in name or name[0] in "0."
        return
    assert spelled.isidentifier()
    assert onnx_name(spelled) == name


def test_a_package_of_another_program_is_refused(tmp_path: Path) -> None:
    @Builder.program(input_specs=[Builder.TensorSpec(shape=(1, 3))], opset_version=ct.target.iOS17)  # type: ignore[untyped-decorator]
    def program(x: Any) -> Any:  # noqa: ANN401 - a MIL variable
        return Builder.relu(x=x)

    path = tmp_path / "foreign.mlpackage"
    ct.convert(program, convert_to="mlprogram", skip_model_load=True).save(str(path))
    foreign = Artifact(target="coreml", precision="int8", file=stored_file(path))
    with pytest.raises(ConversionError, match=r"foreign.mlpackage"):
        COREML.open(foreign)
    for part in ("coverage", "metadata", "parameters", "qparams"):
        with pytest.raises(ConversionError, match=r"foreign.mlpackage"):
            getattr(COREML.inspect(foreign), part)
