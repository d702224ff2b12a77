"""`rexnet-gate check --device`: a real run of a real bundle, and results that must not be believed."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from bundles import SHORT, small_bundle
from device_results import seal

from rexnet_export.apps.bench.command import main as bench
from rexnet_export.apps.bench.runner import phases
from rexnet_export.apps.gate.command import main as gate

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
