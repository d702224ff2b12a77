"""The scripts of `examples/` do what they say, and prepare photos exactly as the export did."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from rexnet_export.pipeline.artifact.metadata import describe
from rexnet_export.pipeline.core.records import CROP_MODES, CropMode, ModelCard, Preprocess
from rexnet_export.pipeline.data.preprocess import resize_and_crop

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.fixture(scope="module")
def classify() -> ModuleType:
    spec = importlib.util.spec_from_file_location("classify", EXAMPLES / "classify.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("crop_mode", CROP_MODES)
@pytest.mark.parametrize("size", [64, (32, 96)])
@pytest.mark.parametrize("photo", [(301, 200), (50, 177), (64, 64)], ids=str)
def test_photos_are_prepared_as_the_export_does(
    classify: ModuleType, crop_mode: CropMode, size: int | tuple[int, int], photo: tuple[int, int]
) -> None:
    preprocess = Preprocess(
        size=size, crop_mode=crop_mode, crop_ratio=0.9, interpolation="bilinear", mean=(0.5, 0.2, 0.7)
    )
    card = ModelCard(name="it", labels=("a",), preprocess=preprocess, checkpoint_sha256="0" * 64)
    pixels = np.random.default_rng(0).integers(0, 256, (photo[1], photo[0], 3), np.uint8)
    prepared = classify.prepare(Image.fromarray(pixels), describe(card, precision="int8"))
    np.testing.assert_array_equal(prepared[0], resize_and_crop(Image.fromarray(pixels), preprocess))


@pytest.mark.parametrize("suffix", [".tflite", ".ort"])
def test_classify_names_the_best_classes(exported: Path, suffix: str, tmp_path: Path) -> None:
    file = next(path for path in sorted(exported.glob(f"*{suffix}")) if "x86" not in path.name)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 70, 3), np.uint8)).save(tmp_path / "photo.png")
    command = [sys.executable, "-P", str(EXAMPLES / "classify.py"), str(file), str(tmp_path / "photo.png")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (line,) = done.stdout.splitlines()
    assert line.count("%") == 5
    assert line.startswith(str(tmp_path / "photo.png"))


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its cells are plain Python, so they need no kernel."""
    monkeypatch.chdir(tmp_path)
    cells = json.loads((EXAMPLES / "quickstart.ipynb").read_text(encoding="utf-8"))["cells"]
    names: dict[str, object] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)  # noqa: S102 - our own
    measured, limit, answer = capsys.readouterr().out.splitlines()[-3:]
    assert measured.startswith("rexnet_100-int8-x86.ort: ")
    assert "below float, on 100 images" in limit
    assert answer.endswith("%")
    assert (tmp_path / "quickstart-out" / "report.html").is_file()
