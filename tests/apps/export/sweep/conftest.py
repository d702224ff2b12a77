from pathlib import Path

import pytest
from shared import shared
from small_export import small_checkpoint

from rexnet_export.apps.export.command import main
from rexnet_export.apps.export.sweep import run_sweep, timing
from rexnet_export.apps.export.sweep.sweep_json import TimingsJson


@pytest.fixture
def untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables hold no times, and a process for each of many blocks costs more than the exports of a test."""
    monkeypatch.setattr(run_sweep, "timed", lambda *_: TimingsJson(machine="any", files={}))


@pytest.fixture(scope="session")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three trials: one network in INT8 and, which is cheap, in float; and one file that is no network."""

    def write(folder: Path) -> None:
        folder.mkdir()
        small_checkpoint(folder / "small.safetensors")
        (folder / "broken.pth").write_bytes(b"no weights")
        (folder / "sweep.toml").write_text(f"""
            checkpoints = ["{folder}/small.safetensors", "{folder}/broken.pth"]
            efforts = ["fast"]
            precisions = ["int8", "fp32"]
            targets = ["ort"]
            [options]
            calibration-images = 8
            eval-images = 24
            [[exclude]]
            checkpoint = "{folder}/broken.pth"
            precision = "int8"
        """)

    return shared(tmp_path_factory, "sweep-plan", write) / "sweep.toml"


@pytest.fixture(scope="session")
def swept(plan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of that sweep, run here in one job."""

    def sweep(folder: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(timing, "require_quiet", lambda *_: None)  # other tests run beside this
            assert main(["sweep", str(plan), "--output", str(folder), "--jobs", "1", "--quiet"]) == 10

    return shared(tmp_path_factory, "swept", sweep)
