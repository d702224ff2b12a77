"""What a manifest keeps of options, and of lines that name inputs."""

from pathlib import Path

import pytest

from rexnet_export.pipeline.core.reproducible import at
from rexnet_export.pipeline.export.options import Options
from rexnet_export.pipeline.export.recorded import recorded, without_folders


def test_places_are_kept_as_they_were_given() -> None:
    options = Options(checkpoint="nets/a.pth", calibration_data=Path("/data/photos"))
    values = recorded(options)
    assert (values["checkpoint"], values["calibration_data"]) == ("nets/a.pth", "/data/photos")
    assert "output" not in values
    assert without_folders("/data/photos: few", options) == "/data/photos: few"


def test_reproducible_records_have_names_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path / "photos")
    options = Options(
        checkpoint="hf-hub:owner/network",
        calibration_data=Path("nets/val"),
        eval_data=Path("/x/nets/val"),
        labels=Path(),
    )
    with at(0):
        values = recorded(options)
        line = without_folders("/x/nets/val: 3 files. nets/val: 2.5 files.", options)
    assert line == "val: 3 files. val: 2.5 files."
    assert (values["calibration_data"], values["eval_data"], values["labels"]) == ("val", "val", "photos")
    assert values["checkpoint"] == "hf-hub:owner/network"
