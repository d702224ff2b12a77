"""Which steps every row of the ablation takes, on a small network whose search is done once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple

import ablation
import networks
import pytest
import quantizer_table
import torch
from ablation import TITLES
from depths import SHORT

from rexnet_export.pipeline.checkpoint.load import save_checkpoint
from rexnet_export.pipeline.core.progress import Silent
from rexnet_export.pipeline.core.records import Preprocess
from rexnet_export.pipeline.data.sources import bundled
from rexnet_export.pipeline.export.options import Options
from rexnet_export.pipeline.model.architecture import architecture
from rexnet_export.pipeline.model.rexnet import ReXNet
from rexnet_export.quantization.search.search import search


class Fake(NamedTuple):
    """A draft whose table is the list of the steps that changed it."""

    table: tuple[str, ...] = ()


def kept(draft: Any, _evidence: Any) -> Any:  # noqa: ANN401 - a Step's, of fakes
    return Fake((*draft.table, "kept"))


def refused(draft: Any, _evidence: Any) -> Any:  # noqa: ANN401 - as above
    return Fake(draft.table)


def last(draft: Any, _evidence: Any) -> Any:  # noqa: ANN401 - as above
    return Fake((*draft.table, "last"))


def test_each_row_leaves_out_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    searches: list[list[str]] = []

    def search(_model: Any, evidence: Any, steps: Sequence[Any], _say: Any) -> Fake:  # noqa: ANN401 - as above
        searches.append([step.__name__ for step in steps])
        return reduce(lambda draft, step: step(draft, evidence), steps, Fake())

    monkeypatch.setattr(ablation, "search", search)
    found: Any = ablation.searched(None, None, (kept, refused, last), lambda _: None)  # type: ignore[arg-type]
    assert {name: draft.table for name, draft in found.items()} == {
        ablation.PLAIN: (),
        "without kept": ("last",),
        "without refused": ("kept", "last"),
        "without last": ("kept",),
        ablation.WHOLE: ("kept", "last"),
    }
    assert searches == [[], ["refused", "last"]]  # the others are known without


@pytest.mark.slow
def test_every_row_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    save_checkpoint(
        tmp_path / "small.safetensors",
        ReXNet(architecture(width=0.5, classes=10, stages=SHORT)).eval(),
        labels=bundled("evaluation").class_names,
        preprocess=Preprocess(size=32, crop_ratio=1.0),
        metadata={},
        half=False,
    )
    monkeypatch.setattr(
        ablation,
        "searched",
        lambda model, evidence, _, say: dict.fromkeys(list(TITLES)[:-1], search(model, evidence, [], say)),
    )
    monkeypatch.setattr(ablation, "learn_rounding", lambda _model, table, *_: table)
    small = str(tmp_path / "small.safetensors")
    given = Options(checkpoint=small, calibration_images=24, eval_images=8, output=tmp_path)
    found = ablation.ablate(networks.prepare("small", given), Silent())
    assert list(found) == list(TITLES)
    assert all(isinstance(each, quantizer_table.Result) and each.accuracy.n == 8 for each in found.values())


def test_the_script_is_a_command() -> None:
    said = subprocess.run([sys.executable, ablation.__file__, "--help"], capture_output=True, text=True, check=True)
    assert "one step left out" in said.stdout
