"""An export's predictions as read from its folder, and every way in which a folder is not believed."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gate_samples import CLASSES, REFERENCE_WRONG, edit, labels, logits, write_export
from manifests import vouch

from rexnet_export.apps.gate.accuracy import evidence
from rexnet_export.apps.gate.accuracy.evidence import read_evidence, require_same_images, runtime
from rexnet_export.pipeline.core.errors import BaselineError, DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_export(tmp_path / "out", {"ort": range(50)})


def test_every_network_of_the_chain_is_read(folder: Path) -> None:
    found = read_evidence(folder)
    assert (found.model, found.precision, found.images.name) == ("rexnet_100", "int8", "photos")
    assert found.images.class_names == CLASSES
    assert list(found.stages) == ["float", "equalized", "quantized"]
    assert list(found.targets) == ["ort", "ort x86"]
    assert found.not_run == {}
    assert found.ids[7] == "photos/7.png"
    wrong = {name: int((n.classes != found.images.labels).sum()) for name, n in found.targets.items()}
    assert wrong == {"ort": 50, "ort x86": len(REFERENCE_WRONG)}
    assert found.reference.confidences == pytest.approx(np.exp(4) / (np.exp(4) + 2))
    assert found.targets["ort"].executed_by == "ONNX Runtime 1.26.0"


def test_the_widest_arrays_that_may_be_are_read(folder: Path) -> None:
    """A label and a logit have at most eight bytes, a name 4,096 signs."""
    wide = {"ort": logits(600, ()).astype(float), "labels": labels(600)}
    assert len(read_evidence(edit(write_export(folder, images=600), wide)).images.labels) == 600
    names = {"ids": np.array([f"{index:04096}" for index in range(50)])}
    assert {len(name) for name in read_evidence(edit(write_export(folder, images=50), names)).ids} == {4096}


def test_what_is_read_has_bounds(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def bounded(_: Path, most: int) -> bytes:
        asked.append(most)
        raise ValueError("enough")

    monkeypatch.setattr(evidence, "ArrayArchive", bounded)
    with pytest.raises(DataError, match="enough"):
        read_evidence(folder)
    monkeypatch.setattr(evidence, "read_untrusted", bounded)
    with pytest.raises(DataError, match="enough"):
        read_evidence(folder)
    assert asked == [8 * 2**30, 64 * 2**20]


@pytest.mark.parametrize(("processor", "known"), [("an abacus", "an abacus"), (None, "")])
def test_the_processor_is_told_where_it_is_known(folder: Path, processor: str | None, known: str) -> None:
    environment = json.loads((folder / "report.json").read_text())["environment"]
    assert read_evidence(edit(folder, environment=environment | {"processor": processor})).processor == known


def test_what_nothing_could_run_says_why(folder: Path) -> None:
    report = json.loads((folder / "report.json").read_text())
    report["targets"]["ort"]["executed_by"] = {"not_measured": "no runtime here"}
    found = read_evidence(edit(folder, {"ort": None}, **report))
    assert found.not_run == {"ort": "no runtime here"}
    assert list(found.targets) == ["ort x86"]


N = 400


EVEN = np.arange(0, N, 2, dtype=np.uint32)


def test_a_network_that_was_asked_about_some_images(folder: Path) -> None:
    found = read_evidence(edit(folder, {"ort": logits(N, range(50))[EVEN], "ort.images": EVEN}))
    ort = found.targets["ort"]
    assert ort.places is not None
    assert ort.places.tolist() == EVEN.tolist()
    assert int((ort.classes != found.images.asked(ort)).sum()) == 25
    assert found.targets["ort x86"].places is None


def with_one(values: np.ndarray, value: float) -> np.ndarray:
    """The first of them replaced."""
    values[0, 0] = value
    return values


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"ort": logits(N, ()) * np.float32(np.nan)}, "logits of ort are not finite on 400 images"),
        ({"ids": np.array(["a"] * 3 + [str(i) for i in range(N - 3)])}, "image a is there 3 times"),
        ({"ids": np.arange(N)}, "ids are int64"),
        ({"ort": None}, "no predictions of ort, though report.json says it ran"),
        ({"onnx-quantized": None}, "no predictions of onnx-quantized"),
        ({"ids": None}, "damaged"),
        ({"labels": None}, "the images have no labels"),
        ({"labels": labels(N) - 1}, "label -1 is none of 3"),
        ({"labels": labels(N) + 1}, "label 3 is none of 3"),
        ({"labels": labels(N).astype(float)}, "labels are float64"),
        ({"ort": logits(N - 1, ())}, r"logits of ort are float32 \[399, 3\]"),
        ({"ort": logits(N, ()).astype(int)}, r"logits of ort are int64 \[400, 3\]"),
        ({"ort": logits(1180, ())}, "'ort' has 14,288 bytes, more than 9,600"),
        ({"labels": labels(940)}, "'labels' has 7,648 bytes, more than 3,200"),
        ({"ids": np.zeros(N, "U4099")}, "'ids' has 6,558,528 bytes, more than 6,553,600"),
        ({"ids": np.array(["a"] * (N + 1))}, r"ids are <U1 \[401\], not 400 names"),
        ({"ort": with_one(logits(N, ()), np.inf)}, "logits of ort are not finite on 1 images"),
        ({"ort": np.array([{}] * N, object)}, "damaged"),
        ({"ort.images": EVEN}, r"logits of ort are float32 \[400, 3\]|'ort' has"),
        ({"ort": logits(N, ())[EVEN]}, r"logits of ort are float32 \[200, 3\]"),
        ({"ort": logits(N, ())[EVEN], "ort.images": EVEN + 2}, "ort.images: place 400 is none of 400 images"),
        ({"ort": logits(N, ())[EVEN], "ort.images": EVEN[::-1]}, "ort.images: places are not in order"),
        ({"ort": logits(N, ())[EVEN], "ort.images": EVEN // 4}, "ort.images: places are not in order"),
        ({"ort": logits(N, ())[EVEN], "ort.images": EVEN.astype(float)}, "ort.images: float64"),
        ({"ort": logits(N, ())[:0], "ort.images": EVEN[:0]}, r"ort.images: uint32 \[0\] are no places"),
        ({"ort.images": np.zeros(10**6, np.uint64)}, "'ort.images' has 8,000,128 bytes, more than 3,200"),
    ],
)
def test_arrays_that_are_no_predictions(folder: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_evidence(edit(folder, arrays))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"schema_version": 2}, "schema_version 2, this program reads up to 1; install a newer"),
        ({"reference": {"n": 0}}, "reference.n holds 0"),
        ({"model": {"name": "../../etc", "labels": list(CLASSES), "checkpoint_sha256": "0" * 64}}, "etc"),
        ({"targets": {"../x": {"executed_by": "x"}}}, "x"),
        ({"targets": []}, "targets holds a list"),
        ({"stages": {"float": {}}}, "stages.float lacks file"),
    ],
)
def test_reports_that_are_none(folder: Path, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_evidence(edit(folder, **changed))


def test_more_images_than_a_machine_can_count(folder: Path) -> None:
    reference = json.loads((folder / "report.json").read_text())["reference"]
    with pytest.raises(DataError, match=r"ids are <U14 \[400\], not 1,000,000,000,000,000,000,000 names"):
        read_evidence(edit(folder, reference=reference | {"n": 10**21}))


def test_reports_of_older_versions(folder: Path) -> None:
    path = folder / "report.json"
    content = json.loads(path.read_text())
    del content["stages"]
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"lacks stages.*export again"):
        read_evidence(vouch(folder))


@pytest.mark.parametrize("name", ["report.json", "predictions.npz"])
def test_edited_files_are_not_believed(folder: Path, name: str) -> None:
    path = folder / name
    path.write_bytes(path.read_bytes().replace(b"0", b"1", 1))
    with pytest.raises(DataError, match=f"{name} is not what manifest.json says"):
        read_evidence(folder)


@pytest.mark.parametrize("name", ["rexnet_100-int8.ort", "rexnet_100-float.onnx"])
def test_an_artifact_that_is_altered_or_gone_cannot_be_judged(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"7 bytes")
    with pytest.raises(DataError, match=f"{name} is not what manifest.json says"):
        read_evidence(folder)
    (folder / name).unlink()
    with pytest.raises(DataError, match=f"{name} is missing"):
        read_evidence(folder)
    with pytest.raises(DataError, match=f"is '{name}' .* which manifest.json does not know"):
        read_evidence(vouch(folder))


@pytest.mark.parametrize("name", ["report.json", "predictions.npz", "manifest.json"])
def test_truncated_and_missing_files(folder: Path, name: str) -> None:
    path = folder / name
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=name):
        read_evidence(folder if name == "manifest.json" else vouch(folder))
    path.unlink()
    with pytest.raises(DataError, match=name):
        read_evidence(folder)


def test_an_array_that_is_cut_inside_the_archive(folder: Path) -> None:
    path = folder / "predictions.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 255
    path.write_bytes(content)
    with pytest.raises(DataError, match="npz"):
        read_evidence(vouch(folder))


def test_the_same_images_are_the_same(folder: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    require_same_images(read_evidence(folder).images, read_evidence(other).images, "both")


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"sha256": "f" * 64}, "other images, or another order"),
        ({"class_names": ("dog", "cat", "owl")}, "class 0 is 'cat' and 'dog'"),
        ({"class_names": ("cat", "dog")}, "3 classes and 2"),
        ({"labels": np.zeros(9, np.uint16)}, "400 and 9 images"),
        ({"labels": np.zeros(400, np.uint16)}, "266 images have another label"),
    ],
)
def test_other_images_say_what_differs(folder: Path, part: dict[str, Any], message: str) -> None:
    images = read_evidence(folder).images
    other = type(images)(**{**vars(images), **part})
    with pytest.raises(BaselineError, match=f"^this and that: {message}"):
        require_same_images(images, other, "this and that")


@pytest.mark.parametrize(
    ("executed_by", "expected"),
    [
        ("ONNX Runtime 1.26.0", "ONNX Runtime 1.26"),
        ("torch 2.15.0 on CPU", "torch on CPU"),
        ("LiteRT 2.1.2", "LiteRT 2.1"),
        ("Core ML", "Core ML"),
        ("ours 3 on 2", "ours 3 on 2"),
        ("lib.of.ours 1.2.3", "lib.of.ours 1.2"),
        ("ONNX Runtime 1.26.0, weights as UINT8 for want of VNNI", "ONNX Runtime 1.26"),
    ],
)
def test_the_last_number_of_a_version_does_not_count(executed_by: str, expected: str) -> None:
    assert runtime(executed_by) == expected
