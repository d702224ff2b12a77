"""The committed baselines: of the bundled network, whole, compact, and not to be changed by hand."""

import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from gate_samples import write_export

from rexnet_export.apps.gate.accuracy.evidence import runtime
from rexnet_export.apps.gate.baseline.baseline import Baseline, correct, read_baselines
from rexnet_export.apps.gate.command import main
from rexnet_export.pipeline.core.records import file_sha256
from rexnet_export.pipeline.data.sources import bundled, images_sha256
from rexnet_export.targets import USUAL

ROOT = Path(__file__).parents[1]
MODEL = "rexnet_100"
CHECKPOINT = ROOT / "assets" / "rexnet_100-fashion-mnist-64.safetensors"
RUNTIMES = {
    "coreml": "MIL reference interpreter",
    "tflite": f"LiteRT {version('ai-edge-litert')}",
    "ort": f"ONNX Runtime {version('onnxruntime')}",
    "ort x86": f"ONNX Runtime {version('onnxruntime')}",
    "ort vnni": f"ONNX Runtime {version('onnxruntime')}",
    "ort npu": f"ONNX Runtime {version('onnxruntime')}",
    "gpu": f"torch {version('torch').split('+')[0]} on CPU",
}


@pytest.fixture(scope="module")
def baselines() -> dict[str, Baseline]:
    return read_baselines(ROOT / "baselines", MODEL)


def test_every_artifact_has_one(baselines: dict[str, Baseline]) -> None:
    assert {target.split(maxsplit=1)[0] for target in baselines} == set(USUAL)
    assert set(baselines) == set(RUNTIMES)


def test_they_are_of_what_ships(baselines: dict[str, Baseline]) -> None:
    """Of this checkpoint, all its evaluation images in their order, and runtimes that the gate still compares."""
    images = bundled("evaluation")
    digest = images_sha256(images, range(len(images)))
    for target, baseline in baselines.items():
        assert baseline.float_anchor.sha256 == file_sha256(CHECKPOINT)
        assert baseline.images.sha256 == digest
        assert np.array_equal(baseline.images.labels, np.asarray(images.labels))
        assert baseline.images.class_names == images.class_names
        assert runtime(baseline.current.executed_by) == runtime(RUNTIMES[target])


def test_int8_costs_less_than_the_margin_of_ci(baselines: dict[str, Baseline]) -> None:
    for baseline in baselines.values():
        drop = correct(baseline.float_anchor, baseline.images) - correct(baseline.current, baseline.images)
        assert drop <= 0.005 * len(baseline.images.labels) / 2


def test_they_are_small() -> None:
    for path in (ROOT / "baselines").rglob("*.*"):
        assert path.stat().st_size < 45_000, path


def reword(folder: Path) -> None:
    path = folder / "ort.json"
    path.write_text(path.read_text().replace('"reason": "', '"reason": "really, '))


def move_the_anchor(folder: Path) -> None:
    path = folder / "tflite.json"
    path.write_text(path.read_text().replace('"correct": 9346', '"correct": 9300'))


def swap_predictions(folder: Path) -> None:
    (coreml,), (ort,) = folder.glob("coreml*.npz"), folder.glob("ort.*npz")
    shutil.copy(coreml, ort)


@pytest.mark.parametrize("change", [reword, move_the_anchor, swap_predictions])
def test_a_change_by_hand_is_refused(
    change: Callable[[Path], None], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(ROOT / "baselines", tmp_path / "baselines")
    change(tmp_path / "baselines" / MODEL)
    exported = write_export(tmp_path / "exported")
    code = main(["check", str(exported), "--baseline", str(tmp_path / "baselines" / MODEL)])
    assert code == 6
    assert "restore both of its files" in capfd.readouterr().err
