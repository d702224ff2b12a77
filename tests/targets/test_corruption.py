"""Damage that no runtime notices: every file must name the tensors it hit, and the table must disagree with it."""

import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from corruption import Change, Part, damage
from shared import ArtifactOf

from rexnet_export.pipeline.artifact.fingerprints import damaged
from rexnet_export.pipeline.artifact.self_test import SelfTest, check
from rexnet_export.pipeline.artifact.target import Source
from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.records import Artifact, Precision, stored_file
from rexnet_export.pipeline.proof.read_back import differences
from rexnet_export.quantization.table.params import for_bias
from rexnet_export.quantization.table.table import QuantTable
from rexnet_export.targets import TARGETS
from rexnet_export.targets.coreml.package import read_package, seal
from rexnet_export.targets.tflite.flatbuffer import read_graph
from rexnet_export.targets.tflite.match_onnx import PADDED
from rexnet_export.targets.tflite.metadata import with_labels

type Sources = Mapping[Precision, Source]

FILES = ("coreml", "tflite", "ort", "ort-x86", "ort-vnni", "ort-npu", "openvino")
LAYER = "features.2.depthwise"


@pytest.fixture(scope="module")
def files(artifact_of: ArtifactOf) -> Mapping[str, Artifact]:
    found = {}
    for name in ("coreml", "tflite", "ort", "openvino"):
        artifact = artifact_of(name, "int8", "plain")
        found[name] = artifact
        found |= {f"{name}-{preset}": replace(artifact, file=file) for preset, file in artifact.presets.items()}
    return found


@pytest.fixture(params=FILES)
def artifact(request: pytest.FixtureRequest, files: Mapping[str, Artifact]) -> Artifact:
    return files[request.param]


def test_every_int8_file_is_damaged_here(files: Mapping[str, Artifact]) -> None:
    assert set(files) == set(FILES)


def table_of(sources: Sources) -> QuantTable:
    table = sources["int8"].table
    assert table
    return table


def scales(sources: Sources, tensor: str) -> tuple[float, ...]:
    params = table_of(sources).tensors[tensor].params
    assert params
    return params.scale


@pytest.fixture(scope="module")
def activation(sources: Sources) -> str:
    """Read by a pool and a gate, so that no bias' scale follows from it, and of a scale no other tensor has:
    ONNX Runtime stores equal scales once."""
    entries = table_of(sources).tensors.values()
    counted = Counter(entry.params.scale for entry in entries if entry.params is not None)
    gated = [name.replace(".pool", ".depthwise") for name in table_of(sources).tensors if name.endswith(".pool")]
    return next(name for name in gated if counted[scales(sources, name)] == 1)


class Damaged:
    """A damaged copy, and what its readers report."""

    def __init__(self, artifact: Artifact, sources: Sources, folder: Path) -> None:
        self._sources, self._folder = sources, folder
        self.artifact = artifact
        self.target = TARGETS[artifact.target]

    def by(self, tensor: str, part: Part, change: Change) -> "Damaged":
        folder = self._folder / f"{tensor}-{part}"
        folder.mkdir()
        path = damage(self.artifact.file.path, folder, tensor, part, change, self._sources["int8"].card)
        return Damaged(replace(self.artifact, file=stored_file(path)), self._sources, folder)

    def fingerprints(self) -> set[str]:
        inspection = self.target.inspect(self.artifact)
        return set(damaged(inspection.metadata, inspection.qparams, inspection.parameters))

    def from_table(self) -> set[str]:
        inspection = self.target.inspect(self.artifact)
        return set(differences(table_of(self._sources), inspection.qparams, inspection.inside))

    def passes_self_test(self) -> bool:
        inspection = self.target.inspect(self.artifact)
        found = check(self.target.open(self.artifact), inspection.metadata, inspection.qparams)
        assert isinstance(found, SelfTest)
        return found.passed


def test_an_unharmed_copy_is_reported_unharmed(
    artifact: Artifact, sources: Sources, activation: str, tmp_path: Path
) -> None:
    copy = Damaged(artifact, sources, tmp_path).by(activation, "scale", lambda scale: scale)
    assert copy.fingerprints() == copy.from_table() == set()
    assert copy.passes_self_test()


def test_a_changed_activation_scale_is_named(
    artifact: Artifact, sources: Sources, activation: str, tmp_path: Path
) -> None:
    copy = Damaged(artifact, sources, tmp_path).by(
        activation, "scale", lambda scale: np.nextafter(scale.astype(np.float16), np.float16(9))
    )
    assert copy.fingerprints() == copy.from_table() == {activation}


def test_a_changed_zero_point_is_named(artifact: Artifact, sources: Sources, activation: str, tmp_path: Path) -> None:
    copy = Damaged(artifact, sources, tmp_path).by(activation, "zero_point", lambda zero_point: zero_point - 1)
    assert copy.fingerprints() == copy.from_table() == {activation}


def test_shifted_weights_of_a_layer_are_named(artifact: Artifact, sources: Sources, tmp_path: Path) -> None:
    weight = f"{LAYER}.weight"
    copy = Damaged(artifact, sources, tmp_path).by(weight, "values", lambda values: np.roll(values, 1))
    assert copy.fingerprints() == {weight}
    assert copy.from_table() == set()  # the table has no values; the golden logits show these too
    assert not copy.passes_self_test()


def test_swapped_scales_of_two_layers_are_named(artifact: Artifact, sources: Sources, tmp_path: Path) -> None:
    weights = [name for name, entry in table_of(sources).tensors.items() if entry.decision == "weights"]
    one, other = next(
        (one, other)
        for one, other in combinations(weights, 2)
        if len(scales(sources, one)) == len(scales(sources, other)) and scales(sources, one) != scales(sources, other)
    )
    copy = Damaged(artifact, sources, tmp_path)
    copy = copy.by(one, "scale", lambda _: np.array(scales(sources, other), np.float32))
    copy = copy.by(other, "scale", lambda _: np.array(scales(sources, one), np.float32))
    wanted = {one, other}
    if artifact.target == "ort":  # stores no scales of biases: those of its kernels follow from the weights'
        wanted |= {one.replace(".weight", ".bias"), other.replace(".weight", ".bias")}
    assert copy.fingerprints() == copy.from_table() == wanted


def test_a_changed_bias_is_named(artifact: Artifact, sources: Sources, tmp_path: Path) -> None:
    bias = f"{LAYER}.bias"
    copy = Damaged(artifact, sources, tmp_path).by(bias, "values", lambda values: values + (np.arange(len(values)) < 1))
    assert copy.fingerprints() == {bias}
    assert copy.from_table() == set()


def test_bias_scales_are_those_of_input_times_weights(artifact: Artifact, sources: Sources) -> None:
    if artifact.target == "coreml":
        pytest.skip("Core ML's biases are real numbers")
    stored = TARGETS[artifact.target].inspect(artifact).qparams
    entries = table_of(sources).tensors
    biases = [name for name, entry in entries.items() if entry.decision == "derived"]
    assert biases
    for name in biases:
        inputs, weights = stored[str(entries[name].source)], stored[name.replace(".bias", ".weight")]
        assert stored[name] == for_bias(inputs, weights), name


def test_a_core_ml_scale_written_otherwise_than_read_is_an_error(files: Mapping[str, Artifact], tmp_path: Path) -> None:
    path = tmp_path / "small.mlpackage"
    shutil.copytree(files["coreml"].file.path, path)
    spec = read_package(path).spec
    operations = spec.mlProgram.functions["main"].block_specializations["CoreML7"].operations
    (scale,) = (op for op in operations if op.outputs[0].name == "features__3__expand__q_scale_0")
    scale.attributes["val"].immediateValue.tensor.bytes.values = np.float16(1).tobytes()
    seal(path, spec)
    with pytest.raises(ConversionError, match=r"features.3.expand is written with other parameters than it is read"):
        _ = TARGETS["coreml"].inspect(replace(files["coreml"], file=stored_file(path))).qparams


def test_a_tflite_copy_with_other_parameters_is_an_error(
    files: Mapping[str, Artifact], sources: Sources, tmp_path: Path
) -> None:
    graph = read_graph(files["tflite"].file.path)
    copy = next(index for index in graph.indices() if graph.name(index).endswith(PADDED))
    graph.tensor(copy).quantization.zeroPoint = np.array([1], np.int64)
    path = tmp_path / "small.tflite"
    path.write_bytes(with_labels(graph.written(), sources["int8"].card))
    name = graph.name(copy).removesuffix(PADDED)
    with pytest.raises(ConversionError, match=f"gives {name} other parameters than a copy of it"):
        _ = TARGETS["tflite"].inspect(replace(files["tflite"], file=stored_file(path))).qparams
