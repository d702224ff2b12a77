"""Layers in float through the whole road: from a table or by `--max-drop`, executed, reported and proven again."""

import json
import shutil
from pathlib import Path

import onnx
import pytest
from small_export import FEW

from rexnet_export.apps.export.command import main
from rexnet_export.pipeline.checkpoint.load import load_checkpoint, save_checkpoint
from rexnet_export.pipeline.core.errors import GateFailed
from rexnet_export.pipeline.export import finish as run
from rexnet_export.quantization.search.float_islands import with_islands
from rexnet_export.quantization.table.table import QuantTable
from rexnet_export.quantization.table.table_file import load_table, save_table

ISLAND = (
    "features.4.expand",
    "features.4.expand.sigmoid",
    "features.4.expand.silu",
    "features.4.depthwise",
    "features.4.pool",
)


def left_in_float(release: Path) -> QuantTable:
    graph = next(iter(release.glob("*-equalized.onnx")), release / "rexnet_050-float.onnx")
    return with_islands(onnx.load(graph), load_table(release / "qparams.json"), dict.fromkeys(ISLAND, "asked for"))


@pytest.fixture(scope="module")
def release(exported: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every target, made from a table that leaves a layer and its neighbour in float."""
    folder = tmp_path_factory.mktemp("mixed")
    save_table(left_in_float(exported), folder / "mixed.json")
    targets = [word for target in ("coreml", "tflite", "ort") for word in ("--target", target)]
    arguments = ["--checkpoint", str(checkpoint), *targets, "--qparams", str(folder / "mixed.json"), *FEW]
    assert main([*arguments, "--output", str(folder / "out"), "--quiet"]) == 0
    return folder / "out"


def test_every_file_holds_the_layers_in_float(release: Path) -> None:
    report = json.loads((release / "report.json").read_text(encoding="utf-8"))
    for target in report["targets"].values():
        for file in (target, *target["presets"].values()):
            assert 0.8 < file["int8_mac_fraction"] < 1
            assert any(name.startswith("features.4.expand ") for name in file["float_ops"])
        assert target["qparams_equal"] is True
    assert "no --max-drop" in report["mixed_precision"]["not_measured"]


def test_the_files_are_proven_again(release: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(release), "--eval-images", "8", "--trace-images", "1", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert found["proven"] is True
    assert all(file["holds_table"] is True for file in found["files"])


def test_further_targets_leave_the_same_layers_in_float(release: Path, tmp_path: Path) -> None:
    flags = ["--target", "tflite", "--target", "coreml", "--eval-images", "16", "--quiet"]
    assert main(["--checkpoint", str(release), *flags, "--output", str(tmp_path / "more")]) == 0
    found, own = (
        json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["files"]
        for folder in (tmp_path / "more", release)
    )
    for name in ("rexnet_050-int8.tflite", "rexnet_050-int8.mlpackage", "qparams.json"):
        assert found[name] == own[name]


def test_files_of_another_choice_of_layers_are_named(
    release: Path, exported: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A table that quantizes everything, under the digest the file names, is not the one it holds."""
    copy = Path(shutil.copytree(release, tmp_path / "release"))
    (copy / "manifest.json").unlink()
    shutil.copy(exported / "qparams.json", copy / "qparams.json")
    assert main(["verify", str(copy / "rexnet_050-int8.tflite"), "--eval-images", "8", "--quiet"]) == 12
    assert "it was built from another table" in capfd.readouterr().err


@pytest.mark.slow
def test_a_network_that_holds_is_int8_throughout(checkpoint: Path, tmp_path: Path) -> None:
    few = ("--effort", "fast", "--calibration-images", "40", "--eval-images", "48")
    arguments = ["--checkpoint", str(checkpoint), "--target", "ort", *few, "--max-drop", "5", "--quiet"]
    assert main([*arguments, "--output", str(tmp_path / "out")]) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert report["mixed_precision"]["images"] == 20
    assert report["mixed_precision"]["float_layers"] == []
    assert report["targets"]["ort"]["int8_mac_fraction"] == 1


def export(checkpoint: Path, output: Path, *more: str) -> int:
    return main(["--checkpoint", str(checkpoint), "--target", "ort", *FEW, *more, "--output", str(output), "--quiet"])


def test_what_cannot_be_judged_is_refused(
    checkpoint: Path, exported: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert export(checkpoint, tmp_path / "out", "--max-drop", "5") == 11
    assert "--max-drop 5 is judged by 20 calibration images" in capfd.readouterr().err
    assert export(checkpoint, tmp_path / "out", "--max-drop", "nan") == 2
    assert "--max-drop nan" in capfd.readouterr().err
    loaded, carrying = load_checkpoint(checkpoint), tmp_path / "qat.safetensors"
    metadata = {"qparams": (exported / "qparams.json").read_text(encoding="utf-8")}
    save_checkpoint(
        carrying, loaded.network, labels=loaded.labels, preprocess=loaded.preprocess, metadata=metadata, half=False
    )
    assert export(carrying, tmp_path / "out", "--max-drop", "5") == 2
    assert "the checkpoint brings its table" in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_nothing_is_written_where_finished_files_lose_more(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    checked: list[float | None] = []

    def lost(points: float | None, targets: object) -> None:
        checked.append(points)
        raise GateFailed(f"lost on {', '.join(targets)}")  # type: ignore[arg-type]

    monkeypatch.setattr(run, "require_drop", lost)
    few = ("--calibration-images", "40", "--max-drop", "5")
    assert export(checkpoint, tmp_path / "out", *few) == 1
    assert checked == [5.0]
    assert "lost on ort" in capfd.readouterr().err
    assert not (tmp_path / "out").exists()
