"""A network with uneven channels through the whole road: exactly rewritten, the rewrites in the table, files alike."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from small_export import FEW
from twins import chain_twin

from rexnet_export.apps.export.command import main
from rexnet_export.pipeline.checkpoint.load import load_checkpoint, save_checkpoint
from rexnet_export.quantization.table.table_file import load_table, save_table


@pytest.fixture(scope="module")
def uneven(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small network with the channels of its residual chains up to 16 times larger or smaller."""
    loaded = load_checkpoint(checkpoint)
    path = tmp_path_factory.mktemp("uneven") / "twin.safetensors"
    twin = chain_twin(loaded.network, seed=0, spread=16)
    save_checkpoint(path, twin, labels=loaded.labels, preprocess=loaded.preprocess, metadata={}, half=False)
    return path


def export(checkpoint: Path, output: Path, *more: str) -> int:
    return main(
        ["--checkpoint", str(checkpoint), "--target", "tflite", *FEW, "--output", str(output), "--quiet", *more]
    )


@pytest.fixture(scope="module")
def release(uneven: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("uneven") / "out"
    assert export(uneven, output) == 0
    return output


def sqnr(release: Path) -> float:
    report = json.loads((release / "report.json").read_text(encoding="utf-8"))
    return float(report["targets"]["tflite"]["logit_sqnr_db"])


def test_a_rewritten_graph_lies_beside_its_table(release: Path, exported: Path) -> None:
    for folder in (release, exported):
        rewritten = list(folder.glob("*-equalized.onnx"))
        assert bool(rewritten) == bool(load_table(folder / "qparams.json").rewrites)


def test_uneven_channels_lose_no_more_than_even_ones(release: Path, exported: Path) -> None:
    assert load_table(release / "qparams.json").rewrites
    assert (release / "rexnet_050-equalized.onnx").is_file()
    assert sqnr(release) > sqnr(exported) - 3


def test_the_table_alone_rebuilds_the_rewritten_network(release: Path, uneven: Path, tmp_path: Path) -> None:
    assert export(uneven, tmp_path / "again", "--qparams", str(release / "qparams.json")) == 0
    for name in ("rexnet_050-int8.tflite", "rexnet_050-equalized.onnx", "qparams.json"):
        assert (tmp_path / "again" / name).read_bytes() == (release / name).read_bytes(), name


def test_further_targets_are_made_of_the_rewritten_network(release: Path, tmp_path: Path) -> None:
    flags = ["--target", "ort", "--target", "tflite", "--eval-images", "16", "--quiet"]
    assert main(["--checkpoint", str(release), *flags, "--output", str(tmp_path / "more")]) == 0
    for name in ("rexnet_050-int8.tflite", "rexnet_050-equalized.onnx", "rexnet_050-qdq.onnx", "qparams.json"):
        assert (tmp_path / "more" / name).read_bytes() == (release / name).read_bytes(), name
    report = json.loads((tmp_path / "more" / "report.json").read_text(encoding="utf-8"))
    assert list(report["stages"]) == ["float", "equalized", "quantized"]


def test_rewrites_that_were_edited_no_longer_fit(
    release: Path, uneven: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    table = load_table(release / "qparams.json")
    save_table(replace(table, rewrites=table.rewrites[1:]), tmp_path / "edited.json")
    assert export(uneven, tmp_path / "out", "--qparams", str(tmp_path / "edited.json")) == 12
    assert "the table belongs to float graph" in capfd.readouterr().err


@pytest.mark.slow
def test_auto_judges_by_images_that_set_no_range(
    checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert export(checkpoint, tmp_path / "few", "--statistic", "auto") == 11
    assert "24 or more" in capfd.readouterr().err
    assert export(checkpoint, tmp_path / "out", "--statistic", "auto", "--calibration-images", "36") == 0
    table = load_table(tmp_path / "out" / "qparams.json")
    assert table.calibration.statistic == "auto"
    (chosen,) = {entry.statistic for entry in table.tensors.values() if entry.decision == "observed"}
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    tried = {trial["name"] for trial in report["quantization"]["trials"]}
    assert {"ranges: min-max", "ranges: logit-mse", f"ranges: {chosen}"} <= tried


def test_doubtful_calibration_images_are_said_and_reported(exported: Path) -> None:
    report = json.loads((exported / "report.json").read_text(encoding="utf-8"))
    assert any("16" in warning for warning in report["calibration"]["warnings"])
