"""Packages that are damaged, edited or not ours: one clear line, before coremltools' C++ reader sees them."""

import json
import shutil
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from mil_programs import TESTED, builder, built
from shared import ArtifactOf

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.records import Artifact, stored_file
from rexnet_export.targets.coreml.builder import onnx_name
from rexnet_export.targets.coreml.package import MANIFEST, MODEL, WEIGHTS, quiet, read_altered, read_package, seal
from rexnet_export.targets.coreml.target import CoreML

type Damage = Callable[[Path], None]


@pytest.fixture(scope="module")
def package(artifact_of: ArtifactOf) -> Path:
    return artifact_of("coreml", "int8", "plain").file.path


def weight_file(package: Path) -> Path:
    return package / "Data" / WEIGHTS / "weight.bin"


def cut_weights(package: Path) -> None:
    weight_file(package).write_bytes(weight_file(package).read_bytes()[:-100])


def empty_weights(package: Path) -> None:
    weight_file(package).write_bytes(b"")


def remove_weights(package: Path) -> None:
    weight_file(package).unlink()


def other_version(package: Path) -> None:
    content = bytearray(weight_file(package).read_bytes())
    content[4] = 1
    weight_file(package).write_bytes(content)


def edit_stored(package: Path, edit: Callable[..., None]) -> None:
    """Change where or what the program says a weight is, and write the model back."""
    spec = read_altered(package).spec
    (block,) = spec.mlProgram.functions["main"].block_specializations.values()
    operation = next(op for op in block.operations if op.outputs[0].name == "stem__weight")
    edit(operation.attributes["quantized_data"])
    (package / "Data" / MODEL).write_bytes(spec.SerializeToString())


def point_beyond_the_file(package: Path) -> None:
    edit_stored(package, lambda value: setattr(value.blobFileValue, "offset", 2**40))


def point_between_values(package: Path) -> None:
    edit_stored(package, lambda value: setattr(value.blobFileValue, "offset", value.blobFileValue.offset + 64))


def point_into_another_file(package: Path) -> None:
    edit_stored(package, lambda value: setattr(value.blobFileValue, "fileName", "@model_path/weights/other.bin"))


def declare_another_size(package: Path) -> None:
    edit_stored(package, lambda value: setattr(value.type.tensorType.dimensions[0].constant, "size", 99))


def declare_another_type(package: Path) -> None:
    edit_stored(package, lambda value: setattr(value.type.tensorType, "dataType", 10))  # FLOAT16


def swap_axes(package: Path) -> None:
    def swap(value: object) -> None:
        first, second = (value.type.tensorType.dimensions[axis].constant for axis in (0, 1))
        first.size, second.size = second.size, first.size

    edit_stored(package, swap)


def data_beyond_the_file(package: Path) -> None:
    """The place of the data in a value's own metadata."""
    content = bytearray(weight_file(package).read_bytes())
    struct.pack_into("<Q", content, 64 + 16, 2**60)
    weight_file(package).write_bytes(content)


def edit_spec(package: Path, edit: Callable[..., None]) -> None:
    spec = read_altered(package).spec
    edit(spec)
    (package / "Data" / MODEL).write_bytes(spec.SerializeToString())


def other_specification(package: Path) -> None:
    edit_spec(package, lambda spec: setattr(spec, "specificationVersion", 10))


def newer_specification(package: Path) -> None:
    edit_spec(package, lambda spec: setattr(spec, "specificationVersion", 9))


def neural_network(package: Path) -> None:
    edit_spec(package, lambda spec: spec.neuralNetwork.SetInParent())


def no_main(package: Path) -> None:
    edit_spec(package, lambda spec: spec.mlProgram.functions.pop("main"))


def not_a_model(package: Path) -> None:
    (package / "Data" / MODEL).write_bytes(b"\xff" * 100)


def remove_model(package: Path) -> None:
    (package / "Data" / MODEL).unlink()


DAMAGES: Mapping[Damage, str] = {
    cut_weights: r"logits__bias in weight\.bin starts at byte \d+, beyond its end at \d+",
    empty_weights: r"weight\.bin is no weight file of version 2",
    remove_weights: r"no complete Core ML package \(.*weight\.bin",
    other_version: r"weight\.bin is no weight file of version 2",
    point_beyond_the_file: r"stem__weight in weight\.bin starts at byte 1099511627776, beyond its end at",
    point_between_values: r"stem__weight in weight\.bin is not at byte",
    point_into_another_file: r"stem__weight in weight\.bin is said to be in @model_path/weights/other\.bin",
    declare_another_size: r"stem__weight in weight\.bin has \d+ bytes of type 4, which is not INT8 \[99, 4, 3, 3\]",
    declare_another_type: r"stem__weight in weight\.bin has \d+ bytes of type 4, which is not FLOAT16",
    swap_axes: r"holds no readable ML program",
    data_beyond_the_file: r"in weight\.bin ends at byte \d+, beyond its end at",
    other_specification: r"has specification version 10, not 8 \(iOS 17\) or 9 \(iOS 18\)",
    newer_specification: r"is written in the operations CoreML7 in specification version 9",
    neural_network: r"holds neuralNetwork, no ML program",
    no_main: r"holds no readable ML program",
    not_a_model: r"holds no readable model",
    remove_model: r"no complete Core ML package \(.*model\.mlmodel",
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damage_is_one_line_that_names_it(package: Path, tmp_path: Path, damage: Damage) -> None:
    """Read leniently, so that each check speaks for itself; a sealed package with the same damage is refused too."""
    path = shutil.copytree(package, tmp_path / "damaged.mlpackage")
    damage(path)
    with pytest.raises(ConversionError, match=DAMAGES[damage]) as lenient:
        read_altered(path)
    with pytest.raises(ConversionError, match=r"damaged\.mlpackage") as strict:
        read_package(path)
    for caught in (lenient, strict):
        assert str(caught.value).endswith("export it again")
        assert "\n" not in str(caught.value)


def test_altered_weights_are_refused_but_can_be_read_to_name_the_tensor(package: Path, tmp_path: Path) -> None:
    path = shutil.copytree(package, tmp_path / "altered.mlpackage")
    before = weights_of(path)
    content = bytearray(weight_file(path).read_bytes())
    place = bytes(content).index(before["features.3.project.weight"].tobytes())
    content[place + 5] ^= 1
    weight_file(path).write_bytes(content)
    with pytest.raises(ConversionError, match=rf"altered\.mlpackage was damaged or edited.*{MANIFEST}"):
        read_package(path)
    after = weights_of(path)
    assert [name for name in before if not np.array_equal(before[name], after[name])] == ["features.3.project.weight"]
    assert np.count_nonzero(before["features.3.project.weight"] != after["features.3.project.weight"]) == 1


def weights_of(path: Path) -> dict[str, np.ndarray]:
    stored = (op for op in read_altered(path).operations if op.op_type == "constexpr_affine_dequantize")
    return {onnx_name(op.outputs[0].name): np.asarray(op.quantized_data.val) for op in stored}


def test_edited_manifest_is_refused_but_not_read_leniently(package: Path, tmp_path: Path) -> None:
    path = shutil.copytree(package, tmp_path / "edited.mlpackage")
    manifest = json.loads((path / MANIFEST).read_text())
    (path / MANIFEST).write_text(json.dumps({**manifest, "rootModelIdentifier": "0" * 36}))
    with pytest.raises(ConversionError, match="no longer fits"):
        read_package(path)
    assert read_altered(path).metadata == read_package(package).metadata


def test_a_foreign_package_is_named_as_such(tmp_path: Path) -> None:
    """Saved by coremltools, never sealed by us: it has identifiers of its own, and may have no weight file."""
    path, mb = tmp_path / "foreign.mlpackage", builder()
    program = built(lambda x0: mb.relu(x=x0, name=TESTED), [(1, 3)], half=False).program
    with quiet():
        import coremltools as ct  # noqa: PLC0415

        ct.convert(program, minimum_deployment_target=ct.target.iOS17, skip_model_load=True, package_dir=str(path))
    with pytest.raises(ConversionError, match=r"foreign\.mlpackage was not written by rexnet-export"):
        read_package(path)


def test_a_sealed_package_fits_its_manifest(package: Path, tmp_path: Path) -> None:
    path = shutil.copytree(package, tmp_path / "sealed.mlpackage")
    spec = read_package(path).spec
    spec.description.metadata.userDefined["note"] = "other"
    seal(path, spec)
    assert read_package(path).metadata["note"] == "other"


def test_a_classifier_has_the_labels_that_the_package_says(package: Path, tmp_path: Path) -> None:
    copy = tmp_path / package.name
    shutil.copytree(package, copy)
    spec = read_altered(copy).spec
    labels = json.loads(spec.description.metadata.userDefined["labels"])
    spec.description.metadata.userDefined["labels"] = json.dumps([*labels[1:], labels[0]])
    seal(copy, spec)
    metadata = CoreML().inspect(Artifact(target="coreml", precision="int8", file=stored_file(copy)))
    with pytest.raises(ConversionError, match="its classifier has other labels than it says"):
        _ = metadata.metadata


@pytest.mark.parametrize("text", ["[" * 2_000, "1" * 5_000, '{"a": 1, "a": 1}', " " * 70_000])
def test_a_manifest_without_end_is_one_line(package: Path, tmp_path: Path, text: str) -> None:
    copy = tmp_path / package.name
    shutil.copytree(package, copy)
    (copy / MANIFEST).write_text(text)
    with pytest.raises(ConversionError, match="is no complete Core ML package") as refused:
        read_package(copy)
    assert len(str(refused.value).replace(str(tmp_path), "")) < 250


def test_a_part_that_is_a_link_out_of_the_package_is_not_followed(package: Path, tmp_path: Path) -> None:
    copy = tmp_path / package.name
    shutil.copytree(package, copy)
    shutil.move(weight_file(copy), tmp_path / "weight.bin")
    weight_file(copy).symlink_to(tmp_path / "weight.bin")
    with pytest.raises(ConversionError, match="leads out of"):
        read_altered(copy)
