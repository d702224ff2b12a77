"""Which steps every row of the ablation takes, on a small network whose search is done once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ablation
import networks
import pytest
import quantizer_table
import torch

from rexnet_export.pipeline.checkpoint import save_checkpoint
from rexnet_export.pipeline.data import bundled
from rexnet_export.pipeline.options import Options
from rexnet_export.pipeline.progress import Silent
from rexnet_export.pipeline.records import Preprocess
from rexnet_export.pipeline.rexnet import ReXNet, architecture
from rexnet_export.quantization.search import Draft, Step, search


@pytest.mark.slow
def test_every_row_leaves_out_its_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    save_checkpoint(
        tmp_path / "small.safetensors",
        ReXNet(architecture(width=0.5, classes=10)).eval(),
        labels=bundled("evaluation").class_names,
        preprocess=Preprocess(size=32, crop_ratio=1.0),
        metadata={},
        half=False,
    )
    taken: list[list[str]] = []
    drafts: list[Draft] = []

    def searched(model: Any, evidence: Any, steps: Sequence[Step], say: Any) -> Draft:  # noqa: ANN401 - those of `search`
        taken.append([step.__name__ for step in steps])
        if not drafts:
            drafts.append(search(model, evidence, [], say))
        return drafts[0]

    monkeypatch.setattr(ablation, "search", searched)
    monkeypatch.setattr(ablation, "learn_rounding", lambda _model, table, *_: table)
    small = str(tmp_path / "small.safetensors")
    given = Options(checkpoint=small, calibration_images=24, eval_images=8, output=tmp_path)
    found = ablation.ablate(networks.prepare("small", given), Silent())
    assert set(found) == set(ablation.TITLES)
    assert all(isinstance(each, quantizer_table.Result) and each.accuracy.n == 8 for each in found.values())
    every = ["equalized", "grouped", "ranges_chosen", "corrected"]
    assert taken == [[], *([name for name in every if name != out] for out in every), every]


def test_the_script_is_a_command() -> None:
    said = subprocess.run([sys.executable, ablation.__file__, "--help"], capture_output=True, text=True, check=True)
    assert "one step left out" in said.stdout
