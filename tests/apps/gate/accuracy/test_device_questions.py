"""`rexnet-gate check --device`: a real run of a real bundle, and results that must not be believed."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bundles import SHORT, small_bundle
from device_results import device_result, seal

from rexnet_export.apps.bench.command import main as bench
from rexnet_export.apps.bench.runner import phases
from rexnet_export.apps.gate.accuracy import device_questions
from rexnet_export.apps.gate.accuracy.device_questions import device_question
from rexnet_export.apps.gate.accuracy.evidence import Evidence
from rexnet_export.apps.gate.accuracy.predictions import LabelledImages, Predictions, on_both
from rexnet_export.apps.gate.command import main as gate
from rexnet_export.pipeline.core.errors import BaselineError, DataError
from rexnet_export.pipeline.data.sources import choose, images_sha256

IMAGES = 24

type Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def ran(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The result of this machine."""
    folder = tmp_path_factory.mktemp("ran")
    bundle = small_bundle(exported, folder / "bundle.zip")
    flags = ["--device", "local", "--artifact", "rexnet_050-int8.tflite", "--output", str(folder / "result"), "--quiet"]
    assert bench(["run", str(bundle), *flags, *SHORT]) in {0, 4}
    return folder / "result"


def checked(exported: Path, result: Path, capfd: Capture, *flags: str) -> tuple[int, str, str]:
    given = ["check", str(exported), "--float-baseline", "--margin", "30", "--device", str(result), "--json", *flags]
    code = gate(given)
    out, err = capfd.readouterr()
    return code, out, err.replace("\n", " ")


def copied(result: Path, folder: Path) -> Path:
    return Path(shutil.copytree(result, folder / "copy"))


class Photos:
    """Images of three classes that are only named."""

    name = "photos"
    class_names = ("a", "b", "c")

    def __init__(self, count: int) -> None:
        self.ids = [f"{index}.png" for index in range(count)]
        self.labels = [index % 3 for index in range(count)]

    def __len__(self) -> int:
        return len(self.ids)

    def content(self, index: int) -> bytes:
        return self.ids[index].encode()


SHA256 = "a" * 64


def told(folder: Path, **changed: dict[str, object]) -> Path:
    """A result whose parts are changed as somebody could who also writes DONE."""
    path = folder / "result.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, **{key: content[key] | part for key, part in changed.items()}}))
    return seal(folder)


@pytest.fixture
def photos() -> Photos:
    return Photos(30)


@pytest.fixture
def result(tmp_path: Path, photos: Photos) -> Path:
    """Of a phone, on 24 of the 30 images that the export was executed on."""
    folder = device_result(tmp_path)
    chosen = sorted(choose(photos, 24, 0))  # type: ignore[arg-type]
    labels = np.load(folder / "labels.npy")
    digest = images_sha256(photos, chosen)  # type: ignore[arg-type]
    assert len(labels) == len(chosen) == 24
    return told(folder, accuracy={"dataset_sha256": digest})


def exported_evidence(result: Path, photos: Photos, confidences: np.ndarray | None = None) -> Evidence:
    """An export whose labels are the result's, and whose artifact chose class 0 everywhere."""
    labels = np.zeros(30, np.uint16)
    labels[sorted(choose(photos, 24, 0))] = np.load(result / "labels.npy")  # type: ignore[arg-type]
    made = Predictions(
        file="net.tflite", sha256=SHA256, executed_by="LiteRT", classes=np.zeros(30, np.uint16), confidences=confidences
    )
    other = replace(made, sha256="b" * 64)
    return Evidence(
        source="out",
        model="net",
        precision="int8",
        images=LabelledImages(name="photos", sha256="0" * 64, class_names=tuple("abcdefghij"), labels=labels),
        ids=tuple(photos.ids),
        processor="",
        reference=other,
        stages={},
        targets={"ort": other, "tflite": made},
        not_run={},
    )


def test_the_question_is_of_the_devices_images_alone(result: Path, photos: Photos) -> None:
    confidences = np.arange(30, dtype=np.float32) / 30
    evidence = exported_evidence(result, photos, confidences)
    question, note = device_question(evidence, result, photos)  # type: ignore[arg-type]
    places = sorted(choose(photos, 24, 0))  # type: ignore[arg-type]
    assert (question.target, question.name, question.reference_name) == ("tflite", "device", "the export")
    assert question.candidate
    assert question.reference
    device, there = on_both(question.candidate, question.reference, 30)
    assert device.places is not None
    assert device.places.tolist() == places
    assert device.classes.tolist() == np.load(result / "predictions.npy").tolist()
    assert device.executed_by == "litert.js 2.5.3 on Phone 7"
    assert there.classes.tolist() == [0] * 24
    assert there.confidences is not None
    assert there.confidences.tolist() == confidences[places].tolist()
    assert note == f"{result}: p50 1.100 ms, valid"


def test_an_export_without_probabilities_has_none_here(result: Path, photos: Photos) -> None:
    question, _ = device_question(exported_evidence(result, photos), result, photos)  # type: ignore[arg-type]
    assert question.reference
    assert question.reference.confidences is None


@pytest.mark.parametrize(
    ("latency", "validity", "said"),
    [
        ({"p50_ns": None}, {}, "durations are not to be trusted (none)"),
        ({}, {"valid": False, "reasons": ["min_queries", "too_hot"]}, "not to be trusted (min_queries, too_hot)"),
    ],
)
def test_durations_that_nothing_vouches_for_are_called_so(
    latency: dict[str, object], validity: dict[str, object], said: str, tmp_path: Path
) -> None:
    content = {
        "latency": {"p50_ns": 1_000_000} | latency,
        "validity": {"valid": True, "reasons": []} | validity,
    }
    assert said in " ".join(device_questions._durations(tmp_path, content))


def test_a_result_of_no_artifact_of_the_export_is_refused(result: Path, photos: Photos) -> None:
    evidence = exported_evidence(result, photos)
    without = replace(evidence, targets={"ort": evidence.targets["ort"]})
    with pytest.raises(BaselineError, match="ran aaaaaaaaaaaa, which is no artifact of out"):
        device_question(without, result, photos)  # type: ignore[arg-type]


def test_a_class_that_the_network_has_not_is_refused(result: Path, photos: Photos) -> None:
    evidence = exported_evidence(result, photos)
    most = int(np.load(result / "predictions.npy").max())
    names = evidence.images.class_names
    fewer = replace(evidence, images=replace(evidence.images, class_names=names[:most]))
    with pytest.raises(DataError, match=f"predictions.npy names class {most}, and the network has fewer"):
        device_question(fewer, result, photos)  # type: ignore[arg-type]


def test_a_top1_that_is_not_that_of_the_exports_labels_is_refused(result: Path, photos: Photos) -> None:
    evidence = exported_evidence(result, photos)
    labels, predicted = evidence.images.labels.copy(), np.load(result / "predictions.npy")
    place = min(choose(photos, 24, 0))  # type: ignore[arg-type]
    labels[place] = (predicted[0] + (labels[place] == predicted[0])) % 10
    moved = replace(evidence, images=replace(evidence.images, labels=labels))
    with pytest.raises(DataError, match=r"top-1 is 0\.6667 there, and 0\.7083 with the labels of out"):
        device_question(moved, result, photos)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["photos[seed 1, 24 images]", "photos"])
def test_images_chosen_otherwise_are_refused(result: Path, photos: Photos, name: str) -> None:
    folder = told(result, accuracy={"dataset_id": name})
    with pytest.raises(BaselineError, match="images that are not among those of out"):
        device_question(exported_evidence(result, photos), folder, photos)  # type: ignore[arg-type]


def test_images_that_the_export_was_not_executed_on_are_refused(result: Path, photos: Photos) -> None:
    evidence = exported_evidence(result, photos)
    first = min(choose(photos, 24, 0))  # type: ignore[arg-type]
    ids = tuple("other.png" if index == first else name for index, name in enumerate(evidence.ids))
    with pytest.raises(BaselineError, match="images that are not among those of out"):
        device_question(replace(evidence, ids=ids), result, photos)  # type: ignore[arg-type]


def test_a_device_that_answers_as_the_export(exported: Path, ran: Path, capfd: Capture) -> None:
    code, out, err = checked(exported, ran, capfd)
    assert code == 0, err
    content = json.loads(out)
    (found,) = [check for check in content["checks"] if check["name"] == "device"]
    assert (found["target"], found["outcome"]) == ("tflite", "pass")
    assert found["numbers"]["images"] == IMAGES
    assert found["numbers"]["agreement"] == 1.0
    assert any("not to be trusted" in note or "valid" in note for note in content["notes"])


def test_a_device_that_answers_otherwise_is_seen(exported: Path, ran: Path, tmp_path: Path, capfd: Capture) -> None:
    folder = copied(ran, tmp_path)
    logits = np.roll(np.load(folder / "logits.npy"), 1, axis=1)
    predictions = logits.argmax(1).astype("<u2")
    np.save(folder / "predictions.npy", predictions)
    code, _, err = checked(exported, folder, capfd)
    assert code == 11
    assert "predictions.npy is not what its result was made from" in err
    np.save(folder / "logits.npy", logits)
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    result["accuracy"] |= phases.accuracy(logits, np.load(folder / "labels.npy"))
    result["accuracy"]["predictions_sha256"] = hashlib.sha256(predictions.tobytes()).hexdigest()
    limits = {"largest": 0, "mean": 0, "step": 1}
    result["parity"] |= phases.parity(logits, np.load(folder / "expected.npy"), limits)
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
    _, out, _ = checked(exported, seal(folder), capfd)
    (found,) = [check for check in json.loads(out)["checks"] if check["name"] == "device"]
    assert found["numbers"]["agreement"] == 0.0
    images = json.loads((exported / "report.json").read_text(encoding="utf-8"))["reference"]["n"]
    assert len({flip["id"] for flip in found["flips"]}) == IMAGES < images


def test_a_result_of_another_artifact_or_of_other_images_is_refused(
    exported: Path, ran: Path, tmp_path: Path, capfd: Capture
) -> None:
    for group, key, said in (
        ("bundle", "model_sha256", "no artifact of"),
        ("accuracy", "dataset_sha256", "images that are not among those of"),
    ):
        folder = copied(ran, tmp_path / key)
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        result[group][key] = "0" * 64
        (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
        code, _, err = checked(exported, seal(folder), capfd)
        assert code == 6
        assert said in err


def test_what_is_no_result_is_refused(exported: Path, tmp_path: Path, capfd: Capture) -> None:
    code, _, err = checked(exported, tmp_path / "nothing", capfd)
    assert code == 5
    assert "name a result of rexnet-bench run" in err
