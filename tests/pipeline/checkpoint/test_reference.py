"""References mean what people mean by them: the hub in every spelling, folders, and files first of all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from rexnet_export.pipeline.checkpoint.load import load
from rexnet_export.pipeline.checkpoint.reference import export_at, on_hub, weights_at
from rexnet_export.pipeline.core.errors import CheckpointError
from rexnet_export.pipeline.model.architecture import architecture
from rexnet_export.pipeline.model.rexnet import ReXNet

STATE = dict(ReXNet(architecture(width=0.1, classes=2)).state_dict())


@pytest.mark.parametrize(
    ("reference", "meaning"),
    [
        ("hf-hub:timm/rexnet_100.nav_in1k", "hf-hub:timm/rexnet_100.nav_in1k"),
        ("hf_hub:timm/rexnet_100.nav_in1k@v2", "hf-hub:timm/rexnet_100.nav_in1k@v2"),
        ("timm/rexnet_100.nav_in1k", "hf-hub:timm/rexnet_100.nav_in1k"),
        ("someone/my-ReXNet", "hf-hub:someone/my-ReXNet"),
        ("rexnet_100.nav_in1k", "hf-hub:timm/rexnet_100.nav_in1k"),
        ("https://huggingface.co/timm/rexnet_100.nav_in1k", "hf-hub:timm/rexnet_100.nav_in1k"),
        ("https://huggingface.co/timm/rexnet_100.nav_in1k/tree/main", "hf-hub:timm/rexnet_100.nav_in1k@main"),
        ("runs/best", None),
        ("runs/rexnet_100.pth", None),
        ("rexnet_100", None),
        ("local-dir:timm/rexnet_100.nav_in1k", None),
        ("/data/timm/rexnet", None),
        ("~/rexnet/weights", None),
    ],
)
def test_what_is_meant(reference: str, meaning: str | None) -> None:
    assert on_hub(reference) == meaning


def test_what_exists_here_is_meant_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "timm" / "rexnet_100.nav_in1k").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert on_hub("timm/rexnet_100.nav_in1k") is None


def test_a_folder_is_its_weights_with_its_config(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "pytorch_model.bin")
    assert weights_at(str(tmp_path)).name == "pytorch_model.bin"
    save_file(STATE, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"architecture": "rexnet_100", "label_names": ["a", "b"]}')
    for reference in (str(tmp_path), f"local-dir:{tmp_path}"):
        loaded = load(reference)
        assert (loaded.file.path.name, loaded.labels) == ("model.safetensors", ("a", "b"))


def test_a_finished_export_is_no_folder_of_weights(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "model-fp32.safetensors")
    assert export_at(str(tmp_path)) is None
    (tmp_path / "manifest.json").touch()
    assert export_at(str(tmp_path)) == export_at(f"local-dir:{tmp_path}") == tmp_path
    with pytest.raises(CheckpointError, match=r"is a finished export, .* name the checkpoint that it was made from"):
        weights_at(str(tmp_path))
    assert weights_at(str(tmp_path / "model-fp32.safetensors")).is_file()
    save_file(STATE, tmp_path / "model.safetensors")  # weights under their usual name are what they always were
    assert export_at(str(tmp_path)) is None
    assert weights_at(str(tmp_path)).name == "model.safetensors"


@pytest.mark.parametrize("reference", [None, "", "runs/best", "timm/rexnet_100.nav_in1k", "hf-hub:a/b", "\0"])
def test_what_is_no_finished_export(reference: str | None) -> None:
    assert export_at(reference) is None


def test_a_folder_of_one_other_file_or_of_several(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no model\.safetensors or pytorch_model\.bin: name the file"):
        load(str(tmp_path))
    torch.save(STATE, tmp_path / "epoch-3.pth")
    assert load(str(tmp_path)).file.path.name == "epoch-3.pth"
    (tmp_path / "epoch-4.pth").touch()
    with pytest.raises(CheckpointError, match=r"several files of weights \(epoch-3\.pth, epoch-4\.pth\)"):
        load(str(tmp_path))


def test_of_a_training_run_the_weights_are_taken_and_its_state_is_not(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "rexnet_010.safetensors")
    assert load(str(tmp_path)).notes == ()
    (tmp_path / "state.pt").touch()
    loaded = load(str(tmp_path))
    assert loaded.file.path.name == "rexnet_010.safetensors"
    assert loaded.notes == (
        f"took rexnet_010.safetensors of {tmp_path}: state.pt beside it is what rexnet-train goes on from",
    )
    assert load(str(tmp_path / "rexnet_010.safetensors")).file == loaded.file
    (tmp_path / "rexnet_020.safetensors").touch()
    with pytest.raises(CheckpointError, match="several files of weights"):
        load(str(tmp_path))
