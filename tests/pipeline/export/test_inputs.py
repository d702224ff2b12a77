"""What an export works on, and what it says it had to assume."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_export import small_checkpoint

from rexnet_export.pipeline.export.inputs import gather
from rexnet_export.pipeline.export.options import Options
from rexnet_export.pipeline.model.rexnet import ReXNet, architecture


@pytest.fixture
def bare(tmp_path: Path) -> str:
    """Weights of a 10-class network and nothing else."""
    path = tmp_path / "bare.pth"
    torch.manual_seed(0)
    torch.save(ReXNet(architecture(width=0.5, classes=10)).state_dict(), path)
    return str(path)


def test_what_a_bare_file_does_not_state_is_told(bare: str) -> None:
    inputs = gather(Options(checkpoint=bare, precision="fp32", image_size=64, mean=(0.5, 0.5, 0.5)))
    assert "crop mode center, crop ratio 0.875, interpolation bicubic, std 0.229" in inputs.notices[0]
    assert inputs.card.preprocess_source["mean"] == "flags"
    assert inputs.card.preprocess_source["crop_mode"] == "assumed"


def test_a_checkpoint_that_states_all_needs_no_notice(tmp_path: Path) -> None:
    inputs = gather(Options(checkpoint=str(small_checkpoint(tmp_path / "a.safetensors")), precision="fp32"))
    assert inputs.notices == ()
    assert set(inputs.card.preprocess_source.values()) == {"metadata"}
