"""`rexnet-export --qparams`: every target again from a table, edited or not, without calibrating."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_export import FEW, small_checkpoint

from rexnet_export.apps.export.command import main


def rebuilt(table: Path, output: Path, checkpoint: Path, *targets: str) -> int:
    chosen = [word for target in targets for word in ("--target", target)]
    return main(
        ["--checkpoint", str(checkpoint), *chosen, "--qparams", str(table), *FEW, "--output", str(output), "--quiet"]
    )


def edited(table: Path, copy: Path, tensor: str, **params: list[Any]) -> Path:
    content = json.loads(table.read_text(encoding="utf-8"))
    content["tensors"][tensor]["params"].update(params)
    copy.write_text(json.dumps(content), encoding="utf-8")
    return copy


def test_the_same_table_gives_the_same_files(exported: Path, checkpoint: Path, tmp_path: Path) -> None:
    assert rebuilt(exported / "qparams.json", tmp_path / "out", checkpoint, "all") == 0
    first, second = (
        json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["files"]
        for folder in (exported, tmp_path / "out")
    )
    measured = {"report.json", "report.html", "sbom.cdx.json"}  # times differ
    assert first.keys() == second.keys()
    for name in first.keys() - measured:
        assert first[name] == second[name], name


def test_one_edited_scale_reaches_every_target(exported: Path, checkpoint: Path, tmp_path: Path) -> None:
    table = edited(exported / "qparams.json", tmp_path / "edited.json", "pool", scale=[0.0625], zero_point=[-100])
    assert rebuilt(table, tmp_path / "out", checkpoint, "coreml", "tflite", "ort") == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert all(target["qparams_equal"] is True for target in report["targets"].values())
    assert report["calibration"]["source"] == "edited.json, without calibrating"
    content = json.loads((tmp_path / "out" / "qparams.json").read_text(encoding="utf-8"))["tensors"]
    assert content["pool"]["params"]["scale"] == content["flatten"]["params"]["scale"] == [0.0625]
    weights = np.float32(content["logits.weight"]["params"]["scale"])
    np.testing.assert_array_equal(np.float32(content["logits.bias"]["params"]["scale"]), np.float32(0.0625) * weights)


def test_a_table_that_does_not_fit_is_refused(
    exported: Path, checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    other = small_checkpoint(tmp_path / "other.safetensors", seed=1)
    assert rebuilt(exported / "qparams.json", tmp_path / "out", other, "ort") == 12
    assert "weights or image size differ" in capfd.readouterr().err
    table = edited(exported / "qparams.json", tmp_path / "edited.json", "pool", scale=[0.1])
    assert rebuilt(table, tmp_path / "out", checkpoint, "ort") == 12
    assert "pool have scales that are no float16 numbers" in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_float_export_has_no_table(exported: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["--fp32", "--qparams", str(exported / "qparams.json")]) == 2
    assert "fp32 has no quantization table" in capfd.readouterr().err
