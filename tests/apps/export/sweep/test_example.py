"""The example sweeps, and its page's words hold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rexnet_export.apps.export.command import main
from rexnet_export.apps.export.sweep import timing

EXAMPLE = Path(__file__).parents[4] / "examples" / "sweep.toml"


@pytest.mark.slow
def test_the_example_sweeps_and_a_file_is_picked(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "require_quiet", lambda *_: None)  # other tests run beside this
    assert main(["sweep", str(EXAMPLE), "--output", str(tmp_path)]) == 0
    assert "3 of 3 trials done" in capfd.readouterr().out
    assert main(["sweep", "pick", str(tmp_path), "--target", "ort x86", "--max-drop", "8", "--json"]) == 0
    picked = json.loads(capfd.readouterr().out)["picked"]
    assert Path(tmp_path, picked["file"]).is_file()
    assert picked["p50_ms"] > 0
