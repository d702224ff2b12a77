"""`rexnet-export` of a checkpoint that brings its quantization table, as quantization-aware training leaves it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from small_export import FEW

from rexnet_export.apps.export.command import main
from rexnet_export.pipeline.checkpoint.load import load_checkpoint, save_checkpoint


def with_table(checkpoint: Path, path: Path, text: str) -> Path:
    loaded = load_checkpoint(checkpoint)
    save_checkpoint(
        path,
        loaded.network,
        labels=loaded.labels,
        preprocess=loaded.preprocess,
        metadata={"qparams": text},
        half=False,
    )
    return path


def export(checkpoint: Path, output: Path, *more: str) -> int:
    return main(["--checkpoint", str(checkpoint), "--target", "ort", *more, *FEW, "--output", str(output), "--quiet"])


def test_the_table_is_used_without_calibrating(exported: Path, checkpoint: Path, tmp_path: Path) -> None:
    text = (exported / "qparams.json").read_text(encoding="utf-8")
    carrying = with_table(checkpoint, tmp_path / "qat.safetensors", text)
    assert export(carrying, tmp_path / "out", "--seed", "1") == 0  # another seed would calibrate on other images
    assert (tmp_path / "out" / "qparams.json").read_text(encoding="utf-8") == text
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert report["calibration"]["source"] == "qat.safetensors, without calibrating"
    manifest = (tmp_path / "out" / "manifest.json").read_text(encoding="utf-8")
    assert "model_sha256" not in manifest


def test_a_float_export_leaves_the_table_out(exported: Path, checkpoint: Path, tmp_path: Path) -> None:
    text = (exported / "qparams.json").read_text(encoding="utf-8")
    carrying = with_table(checkpoint, tmp_path / "qat.safetensors", text)
    assert export(carrying, tmp_path / "out", "--fp32") == 0
    assert not (tmp_path / "out" / "qparams.json").exists()


def test_other_images_make_another_table(exported: Path, checkpoint: Path, tmp_path: Path) -> None:
    text = (exported / "qparams.json").read_text(encoding="utf-8")
    carrying = with_table(checkpoint, tmp_path / "qat.safetensors", text)
    images = Path(__file__).parents[3] / "assets" / "evaluation-images.idx3-ubyte.gz"
    assert export(carrying, tmp_path / "out", "--calibration-data", str(images)) == 0
    assert (tmp_path / "out" / "qparams.json").read_text(encoding="utf-8") != text


@pytest.mark.parametrize(
    ("damage", "code", "said"),
    [
        pytest.param(lambda text: text[:-3], 10, "quantization table that cannot be read", id="cut"),
        pytest.param(lambda text: text + "[", 10, "cannot be read", id="more"),
        pytest.param(lambda text: text.replace('"stem.bias"', '"stern.bias"'), 12, "stem.bias", id="other"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(
    exported: Path,
    checkpoint: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    damage: Callable[[str], str],
    code: int,
    said: str,
) -> None:
    text = damage((exported / "qparams.json").read_text(encoding="utf-8"))
    carrying = with_table(checkpoint, tmp_path / "qat.safetensors", text)
    assert export(carrying, tmp_path / "out") == code
    assert said in capfd.readouterr().err
