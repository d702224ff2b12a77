"""`--proof`: emulated files, and graphs between, are asked about some images, and all where these show too little."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rexnet_export.apps.export.command import main
from rexnet_export.apps.gate.command import main as gate
from rexnet_export.pipeline.export import finish
from rexnet_export.pipeline.proof import looks
from rexnet_export.targets.ort import session

ARGUMENTS = ("--target", "ort", "--int8", "--effort", "fast", "--calibration-images", "16", "--eval-images", "48")
SEEN = 16  # images of a first look


@pytest.fixture(autouse=True)
def on_x86(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where of files for processors only that for ARM is emulated, and a first look has fewer images than there are."""
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(session, "saturates", lambda: False)
    monkeypatch.setattr(looks, "FIRST_LOOK", SEEN)


def exported(checkpoint: Path, output: Path, *flags: str) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """The report, and the arrays of predictions."""
    assert main([*ARGUMENTS, "--checkpoint", str(checkpoint), "--output", str(output), "--quiet", *flags]) == 0
    with np.load(output / "predictions.npz") as stored:
        return json.loads((output / "report.json").read_text()), dict(stored)


def test_what_is_shown_by_some_images_is_not_asked_of_all(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(finish, "MARGIN", 100.0)  # what no image has is shown by any
    whole, all_of_it = exported(checkpoint, tmp_path / "whole", "--proof", "full")
    report, arrays = exported(checkpoint, tmp_path / "some")
    ort, x86 = report["targets"]["ort"], report["targets"]["ort"]["presets"]["x86"]
    assert (ort["accuracy"]["n"], x86["accuracy"]["n"], report["reference"]["n"]) == (SEEN, 48, 48)
    witnesses = {"ort", "ort-npu", "onnx-float", "onnx-equalized", "onnx-quantized"}
    (places, *others) = [arrays.pop(f"{name}.images") for name in sorted(witnesses)]
    assert (len(places), arrays["ort"].shape) == (SEEN, (SEEN, 10))
    assert all(np.array_equal(places, other) for other in others)
    assert all_of_it.keys() == arrays.keys()
    for name, values in all_of_it.items():
        assert np.array_equal(arrays[name], values[places] if name in witnesses else values)
    quantized = report["stages"]["quantized"]
    agreeing = all_of_it["onnx-quantized"].argmax(1) == all_of_it["reference"].argmax(1)
    assert (quantized["n"], quantized["agreement_with_reference"]) == (SEEN, agreeing[places].mean())
    assert whole["stages"]["quantized"]["n"] == 48
    right = all_of_it["ort"].argmax(1) == all_of_it["labels"]
    assert ort["accuracy"]["top1"] == right[places].mean()
    assert "fewer" not in whole["classes"][0]
    assert sum(each["fewer"]["ort"]["n"] for each in report["classes"] if "fewer" in each) == SEEN
    assert f"on {SEEN} of 48 images" in (tmp_path / "some" / "report.html").read_text()
    capfd.readouterr()
    assert gate(["check", str(tmp_path / "some"), "--baseline", str(tmp_path / "whole"), "--margin", "40"]) == 0
    said = capfd.readouterr().out.replace("\n", " ")
    assert "baseline of float, equalized, quantized, ort, ort npu" in said
    assert "PASS: 15 checks, 3 on 48 images and 12 on 16" in said


def test_what_some_images_do_not_show_is_what_all_say(checkpoint: Path, tmp_path: Path) -> None:
    """16 images show no drop below half a point: the others are run, and the record is that of all."""
    whole, all_of_it = exported(checkpoint, tmp_path / "whole", "--proof", "full")
    report, arrays = exported(checkpoint, tmp_path / "some")
    assert {name: values.tobytes() for name, values in arrays.items()} == {
        name: values.tobytes() for name, values in all_of_it.items()
    }
    one, other = whole["targets"]["ort"]["accuracy"], report["targets"]["ort"]["accuracy"]
    assert (one["n"], one["top1"], one["drop"]) == (other["n"], other["top1"], other["drop"])
    assert one["drop_upper_95"] < other["drop_upper_95"]  # of two looks
    assert whole["targets"]["ort"]["presets"] != {}
    assert "of 48 images (" not in (tmp_path / "some" / "report.html").read_text()


def test_a_drop_that_is_allowed_has_to_be_shown_too(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finish, "MARGIN", 100.0)
    settled = []
    monkeypatch.setattr(finish, "looks", lambda *given: settled.append(given[2]))
    exported(checkpoint, tmp_path / "a")
    exported(checkpoint, tmp_path / "b", "--max-drop", "50", "--calibration-images", "24")
    assert settled == [1.0, 0.5]
