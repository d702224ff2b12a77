"""What every target owes the pipeline, asked of each one in `TARGETS` at each of its precisions."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper
from shared import ArtifactOf

from rexnet_export.pipeline.artifact.metadata import card_from, float_tensors_from
from rexnet_export.pipeline.artifact.self_test import SelfTest, check
from rexnet_export.pipeline.artifact.target import Source, Target, require_int8
from rexnet_export.pipeline.core.errors import ConversionError, ExportError, TargetUnavailable
from rexnet_export.pipeline.core.records import PRECISIONS, Artifact, NotMeasured, Precision, StoredFile, stored_file
from rexnet_export.pipeline.graph.float_tracer import float_trace
from rexnet_export.pipeline.proof.read_back import differences
from rexnet_export.quantization.table.table import TensorEntry
from rexnet_export.targets import TARGETS

type Sources = Mapping[Precision, Source]

CASES = [(name, precision, "plain") for name, target in TARGETS.items() for precision in target.precisions]
PARTS = {"metadata", "coverage", "structure", "qparams", "parameters", "altered"}
FORMS = ("grouped", "mixed", "grouped_mixed")
CASES += [(name, "int8", form) for name, target in TARGETS.items() if "int8" in target.precisions for form in FORMS]
IDS = ["-".join(case) for case in CASES]


@dataclass(frozen=True, kw_only=True)
class Converted:
    """One conversion in a folder of its own."""

    target: Target
    asked: Precision
    form: str
    folder: Path
    artifact: Artifact
    sources: Sources

    def executable(self) -> list[StoredFile]:
        """The artifact's file and its presets."""
        return [self.artifact.file, *self.artifact.presets.values()]


@pytest.fixture(scope="module", params=CASES, ids=IDS)
def converted(request: pytest.FixtureRequest, artifact_of: ArtifactOf) -> Converted:
    name, precision, form = request.param
    sources: Sources = request.getfixturevalue(f"{form}_sources")
    artifact = artifact_of(name, precision, form)
    folder = artifact.file.path.parent
    return Converted(
        target=TARGETS[name], asked=precision, form=form, folder=folder, artifact=artifact, sources=sources
    )


@pytest.fixture(scope="module")
def sources(converted: Converted) -> Sources:
    """Those of the conversion at hand."""
    return converted.sources


def stem(source: Source) -> str:
    return f"{source.card.name}-{source.precision}"


def test_names_and_precisions_are_the_tables() -> None:
    for name, target in TARGETS.items():
        assert target.name == name
        assert target.precisions
        assert set(target.precisions) <= set(PRECISIONS)
        target.require()


def test_all_is_written_inside_the_folder_and_named(converted: Converted, sources: Sources) -> None:
    start = f"{sources[converted.asked].card.name}-{converted.artifact.precision}"
    named = [*converted.executable(), *converted.artifact.companions]
    assert {file.path for file in named} == set(converted.folder.iterdir())
    assert list(converted.folder.parent.iterdir()) == [converted.folder]
    assert all(file.path.name.startswith(start) for file in named)
    for file in named:
        assert file == stored_file(file.path)
        assert file.bytes > 0


def test_the_artifact_says_what_it_is(converted: Converted) -> None:
    assert converted.artifact.target == converted.target.name
    assert converted.artifact.precision in {converted.asked, "fp32"}


def test_labels_and_preprocessing_come_back_out_of_every_file(converted: Converted, sources: Sources) -> None:
    for file in converted.executable():
        metadata = converted.target.inspect(replace(converted.artifact, file=file)).metadata
        assert card_from(metadata) == sources[converted.asked].card
        assert metadata["precision"] == converted.artifact.precision
        assert metadata["float_onnx_sha256"] == sources[converted.asked].float_onnx.sha256
        digest = sources["int8"].table_sha256 if converted.artifact.precision == "int8" else None
        assert metadata.get("table_sha256") == digest


def distance(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Root of the mean squared difference."""
    return float(np.sqrt(np.mean((one - other) ** 2)))


def test_a_session_takes_uint8_images_and_gives_float32_logits(
    converted: Converted, sources: Sources, images: NDArray[np.uint8]
) -> None:
    for file in converted.executable():
        try:
            session = converted.target.open(replace(converted.artifact, file=file))
        except TargetUnavailable as error:
            pytest.skip(str(error))
        logits = session.run(images)
        assert logits.dtype == np.float32
        assert logits.shape == (len(images), len(sources["int8"].card.labels))
        assert np.isfinite(logits).all()
        alone = np.concatenate([session.run(image[None]) for image in images])
        if converted.artifact.precision == "int8" and not session.timed:
            # The interpreter adds in float32: last bits depend on the batch, rounding makes steps of them, and here and
            # there later layers make more of those. Still it is far less than what tells one image from the next.
            assert distance(logits, alone) < 0.1 * distance(logits, np.roll(alone, 1, axis=0))
        else:
            tolerance = 0.01 if converted.artifact.precision in {"fp16", "w8", "w4"} else 0.001
            np.testing.assert_allclose(logits, alone, rtol=0, atol=tolerance * np.abs(logits).max())
        assert session.executed_by


def test_a_trace_has_every_tensor_of_the_table_on_its_grid(
    converted: Converted, sources: Sources, images: NDArray[np.uint8]
) -> None:
    table = sources["int8"].table
    if converted.artifact.precision != "int8":
        pytest.skip("float files have no table to compare with; what they trace is tested where they are opened")
    assert table
    activations = {
        name: entry.params
        for name, entry in table.tensors.items()
        if entry.params is not None and entry.decision in {"observed", "fixed", "shared"}
    }
    reference = float_trace(sources["int8"].float_onnx.path).trace(images[:1])
    for file in converted.executable():
        artifact = replace(converted.artifact, file=file)
        session = converted.target.open(artifact)
        found = session.trace(images[:1])
        np.testing.assert_array_equal(found["logits"], session.run(images[:1]))
        traced = activations.keys() - converted.target.inspect(artifact).inside.keys()
        assert traced <= found.keys() <= table.tensors.keys()
        for name, params in ((name, activations[name]) for name in activations if name in traced):
            values = found[name]
            assert values.dtype == np.float32
            assert values.shape == reference[name].shape, name
            np.testing.assert_array_equal(values, np.float32(params.dequantize(params.quantize(values))), name)
        # Rounding errors add up in a random network; near the image every tensor is still that of the float graph.
        for name in [name for name in found if name in activations][:20]:
            noise = np.square(found[name] - reference[name]).mean()
            assert noise <= 0.1 * np.square(reference[name]).mean(), name


def test_int8_files_store_the_quantization_table(converted: Converted, sources: Sources) -> None:
    table = sources["int8"].table
    if converted.artifact.precision != "int8":
        pytest.skip("not INT8")
    assert table
    wanted = {name: entry.params for name, entry in table.tensors.items() if entry.params is not None}
    biases = {name for name, entry in table.tensors.items() if entry.decision == "derived"}
    for file in converted.executable():
        inspection = converted.target.inspect(replace(converted.artifact, file=file))
        stored = inspection.qparams
        # A format may hold biases as floats; everything else must be there but what is inside an operator, and what is
        # there must be the table's.
        assert inspection.inside.keys().isdisjoint(stored)
        assert wanted.keys() - stored.keys() - inspection.inside.keys() <= biases
        assert stored == {name: wanted[name] for name in stored}


def test_weights_and_biases_come_back_in_onnx_layout(converted: Converted, sources: Sources) -> None:
    if converted.target.name == "gpu":
        pytest.skip("the checkpoint's own tensors: BatchNorm is not folded there")
    initializers = onnx.load(sources["fp32"].float_onnx.path).graph.initializer
    real = {tensor.name: numpy_helper.to_array(tensor) for tensor in initializers}
    real = {name: values for name, values in real.items() if name.endswith((".weight", ".bias"))}
    table = sources["int8"].table
    assert table
    for file in converted.executable():
        stored = converted.target.inspect(replace(converted.artifact, file=file)).parameters
        assert stored.keys() == real.keys()
        for name, values in real.items():
            params = table.tensors[name].params
            wanted: NDArray[np.generic] = values
            if converted.artifact.precision == "int8" and params:
                wanted = params.quantize(values).astype(np.int32 if params.bits == 32 else np.int8)
            elif converted.artifact.precision == "int8" and converted.target.name == "coreml":
                wanted = values.astype(np.float16)
            if params and wanted.dtype == np.int32 and stored[name].dtype == np.float16:  # real numbers in Core ML
                wanted = (wanted * np.float32(params.scale)).astype(np.float16)
            if converted.artifact.precision in {"fp16", "w8", "w4"}:
                wanted = values.astype(np.float16)
            if converted.artifact.precision == "w8" and name.endswith(".weight"):
                scale = np.abs(values).max(axis=tuple(range(1, values.ndim)), keepdims=True) / 127
                assert stored[name].dtype == np.int8
                np.testing.assert_allclose(
                    stored[name], values / scale, atol=0.63
                )  # a scale is a float16: 127 times 2^-10 away
                continue
            if converted.artifact.precision == "w4" and name.endswith(".weight") and values.size > 2048:
                assert np.abs(stored[name] - values).mean() < 0.2 * np.abs(values).mean()
                continue
            assert stored[name].dtype == wanted.dtype
            np.testing.assert_array_equal(stored[name], wanted, err_msg=name)


def test_every_file_is_unharmed_and_repeats_its_golden_logits(converted: Converted, sources: Sources) -> None:
    source = sources[converted.asked]
    assert source.golden is not None
    companions = [file for file in converted.artifact.companions if file.path.suffix in converted.target.suffixes]
    for file in [*converted.executable(), *companions]:
        assert file.path.suffix in converted.target.suffixes
        artifact = replace(converted.artifact, file=file)
        inspection = converted.target.inspect(artifact)
        assert inspection.altered == []
        session = converted.target.open(artifact)
        found = check(session, inspection.metadata, inspection.qparams)
        assert isinstance(found, SelfTest)
        assert found.passed
        assert (found.n, found.same_top1) == (len(source.golden), len(source.golden))
        assert found.executed_then == found.executed_now == session.executed_by
        if converted.artifact.precision == "int8":
            assert found.largest_steps == 0


@pytest.mark.parametrize("form", ["plain", *FORMS])
@pytest.mark.parametrize("name", TARGETS)
def test_without_golden_images_a_file_has_fingerprints_only(
    request: pytest.FixtureRequest, tmp_path: Path, name: str, form: str
) -> None:
    source, target = request.getfixturevalue(f"{form}_sources")["fp32"], TARGETS[name]
    artifact = target.convert(replace(source, golden=None), tmp_path, "plain")
    inspection = target.inspect(artifact)
    assert inspection.altered == []
    assert isinstance(check(target.open(artifact), inspection.metadata, inspection.qparams), NotMeasured)


def test_a_file_called_int8_that_is_not_is_refused(converted: Converted, sources: Sources) -> None:
    coverage = converted.target.inspect(converted.artifact).coverage
    called = replace(converted.artifact, precision="int8")
    named = sources[converted.artifact.precision].float_tensors
    if converted.artifact.precision == "int8":
        require_int8(called, coverage, named)
        unnamed = [tuple(name for name in named if name != layer) for layer in coverage.float_layers]
    else:
        unnamed = [()]
    for less in unnamed:
        with pytest.raises(ConversionError, match="is called INT8, but"):
            require_int8(called, coverage, less)


def test_float_tensors_are_those_of_the_table_and_no_others(
    converted: Converted, sources: Sources, plain_sources: Sources
) -> None:
    table, whole = sources["int8"].table, plain_sources["int8"].table
    assert table
    assert whole
    for file in converted.executable():
        artifact = replace(converted.artifact, file=file)
        named = float_tensors_from(converted.target.inspect(artifact).metadata)
        if converted.artifact.precision != "int8":
            assert named == frozenset()
            continue
        assert named == frozenset(table.float_tensors)
        inspection = converted.target.inspect(artifact)
        stored, inside = inspection.qparams, inspection.inside
        assert differences(table, stored, inside) == []
        assert named.isdisjoint(stored)
        # The same file beside a table that leaves other tensors in float: each is named.
        for name in table.float_tensors[:3]:
            integers = replace(table, tensors={**table.tensors, name: whole.tensors.get(name, table.tensors["logits"])})
            wanted = integers.tensors[name]
            expected = (
                [name] if wanted.params and (wanted.params.bits == 8 or converted.target.name != "coreml") else []
            )
            assert differences(integers, stored, inside) == ([] if name in inside else expected)
        left = replace(table, tensors={**table.tensors, "logits": TensorEntry(decision="float", reason="a test")})
        assert differences(left, stored, inside) == ["logits"]


def test_int8_files_multiply_in_int8(converted: Converted, sources: Sources) -> None:
    named = sources["int8"].float_tensors
    for file in converted.executable():
        found = converted.target.inspect(replace(converted.artifact, file=file)).coverage
        assert found.total_macs > 0
        if converted.artifact.precision == "int8":
            assert sorted(found.float_layers) == [name for name in named if name.endswith(".weight")]
            assert bool(found.float_ops) == bool(named)
            assert found.int8_mac_fraction == 1 if not named else 0.5 < found.int8_mac_fraction < 1
        else:
            assert found.int8_macs == 0
            assert found.float_ops


def test_the_same_source_gives_the_same_bytes(
    converted: Converted, sources: Sources, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if converted.asked != "int8":
        pytest.skip("asked of INT8 only, to save minutes")
    if converted.form == "grouped_mixed":  # it has every operator of the other forms: onnx2tf itself is asked again
        request.getfixturevalue("fresh_onnx2tf")
    again = converted.target.convert(sources[converted.asked], tmp_path, stem(sources[converted.asked]))
    assert digests(again) == digests(converted.artifact)


def digests(artifact: Artifact) -> dict[str, str]:
    files = [artifact.file, *artifact.presets.values(), *artifact.companions]
    return {file.path.name: file.sha256 for file in files}


def test_truncated_files_are_refused(converted: Converted, tmp_path: Path) -> None:
    target = converted.target
    # What was altered is said as far as it can be read: a manifest cut short alters no tensor.
    parts = PARTS - {"altered"} - (set() if converted.artifact.precision == "int8" else {"qparams"})
    for file in converted.executable():
        for cut in truncations(file, tmp_path):
            artifact = replace(converted.artifact, file=cut)
            with pytest.raises(ExportError):
                target.open(artifact)
            for part in parts:
                with pytest.raises(ExportError):
                    getattr(target.inspect(artifact), part)


def test_files_of_something_else_are_refused(converted: Converted, tmp_path: Path) -> None:
    target = converted.target
    parts = PARTS - {"qparams"} if target.name == "gpu" else PARTS  # a float checkpoint is not asked for parameters
    for suffix in target.suffixes:
        for number, content in enumerate((b"", b"no model", bytes(4096), b"\x08\x07" + bytes(64))):
            path = tmp_path / f"foreign-{number}{suffix}"
            path.write_bytes(content)
            foreign = replace(converted.artifact, precision="int8", file=stored_file(path))
            with pytest.raises(ExportError, match=path.name):
                target.open(foreign)
            for part in parts:
                with pytest.raises(ExportError, match=path.name):
                    getattr(target.inspect(foreign), part)
        (tmp_path / f"folder{suffix}").mkdir()
        folder = replace(converted.artifact, file=stored_file(tmp_path / f"folder{suffix}"))
        with pytest.raises(ExportError):
            _ = target.inspect(folder).metadata


def truncations(file: StoredFile, folder: Path) -> Iterator[StoredFile]:
    """The file cut to nothing, to its first bytes, in half and near its end; of a bundle, each member in turn."""
    for place in [file.path] if file.path.is_file() else sorted(p for p in file.path.rglob("*") if p.is_file()):
        content = place.read_bytes()
        for length in (0, 10, len(content) // 2, len(content) - 64):
            copy = folder / file.path.name
            if file.path.is_dir():
                copy = folder / f"{place.name}-{length}" / file.path.name
                for member in (p for p in file.path.rglob("*") if p.is_file()):
                    twin = copy / member.relative_to(file.path)
                    twin.parent.mkdir(parents=True, exist_ok=True)
                    twin.write_bytes(member.read_bytes())
            (copy if place == file.path else copy / place.relative_to(file.path)).write_bytes(content[: max(0, length)])
            yield stored_file(copy)
