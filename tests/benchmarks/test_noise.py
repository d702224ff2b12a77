"""What the script learns is what a table can say, and its figure of noise is the one that it states."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import ablation
import networks
import noise
import numpy as np
import pytest
import torch
from calibrated_networks import calibrated_network
from depths import SHORT

from rexnet_export.pipeline.checkpoint.load import save_checkpoint
from rexnet_export.pipeline.core.progress import Silent
from rexnet_export.pipeline.core.records import Preprocess
from rexnet_export.pipeline.data.sources import bundled
from rexnet_export.pipeline.export.options import Options
from rexnet_export.pipeline.model.architecture import architecture
from rexnet_export.pipeline.model.rexnet import ReXNet
from rexnet_export.quantization.onnx.simulate import run
from rexnet_export.quantization.onnx.view import view
from rexnet_export.quantization.scheme.insert_qdq import insert_qdq


@pytest.fixture(scope="module")
def tiny() -> Iterator[SimpleNamespace]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield calibrated_network("v1")
    torch.set_num_threads(threads)


def test_the_margin_counts_where_the_network_is_least_sure() -> None:
    reference = np.zeros((20, 3), np.float32)
    reference[:, 2] = np.arange(1, 21)  # the margins: the least sure tenth is the first two
    found = reference.copy()
    found[0, 2] += 0.5
    found[1, :2] += 0.25  # a margin is lost to the second, whichever that is
    found[10:, 2] -= 5.0  # of no account
    assert noise.margin_noise(reference, found) == pytest.approx((0.5 + 0.25) / 2)


def test_biases_and_rounding_are_learned_within_the_table(tiny: SimpleNamespace) -> None:
    learned = noise.distilled(tiny.model, tiny.table, tiny.images, {"derived", "weights"}, steps=8)
    constants, turned = view(tiny.model).constants, 0
    for name, entry in learned.tensors.items():
        before = tiny.table.tensors[name]
        assert (entry.correction is not None) == (entry.decision == "derived")
        assert entry.params == before.params
        if entry.decision == "weights":
            integers, nearest = (table.integers(name, constants[name]) for table in (learned, tiny.table))
            second = before.params.second_nearest(constants[name])
            assert ((integers == nearest) | (integers == second)).all()
            turned += int((integers != nearest).sum())
    assert turned
    reference = run(tiny.model, tiny.images)
    errors = [
        float(np.square(reference - run(insert_qdq(tiny.model, table, "uint8"), tiny.images)).mean())
        for table in (tiny.table, learned)
    ]
    assert errors[1] < errors[0]


@pytest.mark.slow
def test_every_change_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    save_checkpoint(
        tmp_path / "small.safetensors",
        ReXNet(architecture(width=0.5, classes=10, stages=SHORT)).eval(),
        labels=bundled("evaluation").class_names,
        preprocess=Preprocess(size=32, crop_ratio=1.0),
        metadata={},
        half=False,
    )
    monkeypatch.setattr(ablation, "STEPS", ())
    small = str(tmp_path / "small.safetensors")
    given = Options(checkpoint=small, calibration_images=24, eval_images=8, output=tmp_path)
    first, *others = noise.rows(networks.prepare("small", given), 2, Silent())
    assert first.startswith("| none: `--effort default` |")
    assert " | 0, 0 | " in first
    assert len(others) == 9
    assert all(row.count("|") == noise.HEAD.splitlines()[0].count("|") for row in others)
