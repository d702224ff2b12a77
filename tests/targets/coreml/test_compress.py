"""Weights in fewer bits: palettes are the best there are, groups fit, and the file on disk is held to its weights."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import coremltools.optimize.coreml as cto
import numpy as np
import onnx
import pytest
from coremltools.models import MLModel
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from shared import ArtifactOf

from rexnet_export.apps.export.command import main
from rexnet_export.pipeline.artifact.target import Source
from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.records import Artifact, Precision, stored_file
from rexnet_export.targets.coreml.check import check
from rexnet_export.targets.coreml.compress import Palettes, group_count, palettes
from rexnet_export.targets.coreml.inspect import weights_of
from rexnet_export.targets.coreml.package import MANIFEST, expanded, read_package
from rexnet_export.targets.coreml.target import CoreML

COREML = CoreML()


def rebuilt(found: Palettes) -> NDArray[np.float64]:
    """The weights [out, n] that palettes stand for."""
    groups = zip(found.numbers, np.split(found.indices, len(found.numbers)), strict=True)
    looked_up = np.concatenate([numbers[indices] for numbers, indices in groups])
    weight: NDArray[np.float64] = looked_up.astype(np.float64) * found.scales[:, None]
    return weight


@given(st.integers(1, 600))
def test_groups_are_equal_and_of_sixteen_channels_or_more(channels: int) -> None:
    count = group_count(channels)
    assert channels % count == 0
    assert count == 1 or channels // count >= 16
    assert not any(channels % more == 0 and channels // more >= 16 for more in range(count + 1, channels + 1))


def test_a_palette_leaves_the_least_squared_error() -> None:
    values = np.float32([*[0.0] * 2040, *range(1, 15), 20.0, 21.0, 30.0])  # 18 numbers in 16 places
    found = palettes(values.reshape(1, -1))
    assert found
    assert found.indices.shape == (1, len(values))
    error = float(np.square(rebuilt(found) - values).sum())
    assert error == pytest.approx(1.0, abs=0.05)  # two pairs of neighbours meet in the middle; numbers are float16


def test_each_group_has_a_palette_of_its_own_and_exact_weights_stay_exact() -> None:
    levels = np.float32(np.arange(-8, 8) / 8)
    weight = np.concatenate([np.resize(levels, (16, 80)), np.resize(levels * 64, (16, 80))])
    found = palettes(weight)
    assert found
    assert found.numbers.shape == (2, 16)
    np.testing.assert_array_equal(rebuilt(found), weight)


def test_channels_of_different_size_share_a_palette_without_loss() -> None:
    levels = np.float32(np.arange(-8, 8) / 8)
    weight = np.resize(levels, (16, 160)) * np.float32(2.0) ** np.arange(-8, 8)[:, None]
    found = palettes(weight)
    assert found
    np.testing.assert_array_equal(rebuilt(found), weight)
    nothing = palettes(np.concatenate([weight, 0 * weight]))
    assert nothing
    np.testing.assert_array_equal(rebuilt(nothing)[16:], 0)


def test_few_values_are_not_compressed() -> None:
    assert palettes(np.ones((2, 1024), np.float32)) is None
    assert palettes(np.ones((3, 683), np.float32)) is not None


def test_palettes_take_a_quarter_of_float16_and_need_ios_18(artifact_of: ArtifactOf) -> None:
    sizes = {p: artifact_of("coreml", p, "plain").file.bytes for p in ("fp16", "w8", "w4")}
    assert sizes["w4"] < sizes["w8"] < sizes["fp16"]
    versions = {
        p: read_package(artifact_of("coreml", p, "plain").file.path).spec.specificationVersion for p in ("w8", "w4")
    }
    assert versions == {"w8": 8, "w4": 9}


@pytest.mark.parametrize(("precision", "least"), [("w8", 0.9), ("w4", 0.6)])
def test_logits_follow_those_of_float32(
    artifact_of: ArtifactOf, images: NDArray[np.uint8], precision: Precision, least: float
) -> None:
    exact, found = (COREML.open(artifact_of("coreml", p, "plain")).run(images).ravel() for p in ("fp32", precision))
    assert np.corrcoef(exact, found)[0, 1] > least


@pytest.mark.parametrize(("precision", "specification"), [("w8", 8), ("w4", 9)])
def test_a_file_of_other_weights_is_refused(
    artifact_of: ArtifactOf, sources: Mapping[Precision, Source], precision: Precision, specification: int
) -> None:
    source, package = sources[precision], read_package(artifact_of("coreml", precision, "plain").file.path)
    model = onnx.load(source.float_onnx.path)
    check(package, model, source, specification)
    weight = next(each for each in model.graph.initializer if each.name == "features.5.expand.weight")
    weight.raw_data = np.frombuffer(weight.raw_data, np.float32)[::-1].tobytes()
    with pytest.raises(ConversionError, match=r"Core ML stores other .* for features\.5\.expand\.weight"):
        check(package, model, source, specification)


def test_what_people_read_stands_in_the_formats_own_places(artifact_of: ArtifactOf) -> None:
    metadata = read_package(artifact_of("coreml", "w4", "plain").file.path).spec.description.metadata
    stated = metadata.userDefined
    assert metadata.shortDescription == stated["description"] == "rexnet_050, w4: image classifier with 10 classes."
    assert metadata.versionString == stated["checkpoint_sha256"][:12]
    assert (metadata.author, metadata.license) == (stated["author"], stated["license"])


def test_opening_a_package_in_coremltools_leaves_it_as_it_was(artifact_of: ArtifactOf, tmp_path: Path) -> None:
    for precision in ("fp16", "w8", "w4"):
        copy = tmp_path / f"{precision}.mlpackage"
        shutil.copytree(artifact_of("coreml", precision, "plain").file.path, copy)
        before = (copy / MANIFEST).read_bytes()
        MLModel(str(copy), skip_model_load=True)
        assert (copy / MANIFEST).read_bytes() == before


def compressed(source: Path, path: Path, form: str) -> Path:
    """What a person makes of a package with coremltools."""
    model = MLModel(str(source), skip_model_load=True)
    if form == "palettes of 64 numbers":
        config = cto.OptimizationConfig(global_config=cto.OpPalettizerConfig(mode="uniform", nbits=6))
        changed = cto.palettize_weights(model, config)
    elif form == "8-bit integers":
        changed = cto.linear_quantize_weights(model, cto.OptimizationConfig(cto.OpLinearQuantizerConfig()))
    else:
        changed = cto.prune_weights(model, cto.OptimizationConfig(cto.OpMagnitudePrunerConfig(target_sparsity=0.3)))
    changed.save(str(path))
    return path


@pytest.mark.parametrize("form", ["palettes of 64 numbers", "8-bit integers", "sparse numbers"])
def test_verify_says_what_was_compressed_since(
    artifact_of: ArtifactOf, tmp_path: Path, capfd: pytest.CaptureFixture[str], form: str
) -> None:
    path = compressed(artifact_of("coreml", "fp16", "plain").file.path, tmp_path / "user.mlpackage", form)
    inspection = COREML.inspect(Artifact(target="coreml", precision="fp16", file=stored_file(path)))
    assert set(inspection.compressed.values()) == {form}
    assert set(inspection.altered) == set(inspection.compressed)
    capfd.readouterr()
    assert main(["verify", str(path)]) == 0
    assert "PASS, but not as it was written: user.mlpackage was compressed since" in capfd.readouterr().out
    assert main(["verify", str(path), "--json"]) == 0
    said = json.loads(capfd.readouterr().out)
    assert not said["proven"]
    (file,) = said["files"]
    assert file["problems"] == []
    assert file["changes"][0].endswith(f"to {form}")
    assert "top-1 the same on" in file["changes"][1]


def test_palettes_that_coremltools_has_scaled_stand_for_the_same_weights(
    artifact_of: ArtifactOf, tmp_path: Path
) -> None:
    before = read_package(artifact_of("coreml", "w4", "plain").file.path)
    after = read_package(compressed(before.path, tmp_path / "user.mlpackage", "sparse numbers"))
    weights = {name: var for name, var in weights_of(after).items() if var.op.op_type == "constexpr_lut_to_dense"}
    assert any(var.op.lut.val is None for var in weights.values())  # it moved the channels' scales into the table
    for name, var in weights.items():
        np.testing.assert_array_equal(expanded(var), expanded(weights_of(before)[name]))


def test_verify_still_refuses_what_no_compression_explains(
    artifact_of: ArtifactOf, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = artifact_of("coreml", "fp16", "plain").file.path
    path = compressed(source, tmp_path / "user.mlpackage", "8-bit integers")
    model = MLModel(str(path), skip_model_load=True)
    model.user_defined_metadata["labels"] = json.dumps(["a"] * 10)
    model.save(str(tmp_path / "renamed.mlpackage"))
    capfd.readouterr()
    assert main(["verify", str(tmp_path / "renamed.mlpackage")]) == 12
    assert "metadata labels is not what the exporter wrote" in capfd.readouterr().err
