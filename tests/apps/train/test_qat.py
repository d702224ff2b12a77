"""Quantization-aware fine-tuning: it learns, and what it stores is exported as it was trained."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from calibrated_networks import PREPROCESS, calibrated_network
from PIL import Image

from rexnet_export.apps.export.command import main as export
from rexnet_export.apps.train.command import main
from rexnet_export.apps.train.distributed import World
from rexnet_export.apps.train.qat import QatTrainer, settled
from rexnet_export.apps.train.recipe import FINE_TUNING
from rexnet_export.pipeline.checkpoint.load import load_checkpoint, save_checkpoint
from rexnet_export.pipeline.core.errors import UsageError
from rexnet_export.pipeline.core.progress import Silent
from rexnet_export.pipeline.core.records import ModelCard, Reading, stored_file
from rexnet_export.pipeline.data.selection import Images
from rexnet_export.pipeline.data.sources import choose, open_source
from rexnet_export.pipeline.export.inputs import Inputs
from rexnet_export.pipeline.export.options import Options
from rexnet_export.pipeline.export.quantize import calibrate
from rexnet_export.pipeline.graph.float_graph import float_graph
from rexnet_export.pipeline.model.rexnet import ReXNet
from rexnet_export.quantization.learned.fake_quant import FakeQuantNetwork
from rexnet_export.quantization.onnx.view import view
from rexnet_export.quantization.rewrites.rewrite import apply
from rexnet_export.quantization.scheme.refit import refitted
from rexnet_export.quantization.table.rounding_mask import mask_text
from rexnet_export.quantization.table.table_file import load_table, parse_table

SOON = ("--effort", "fast")  # without a search


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten classes with eight noisy images each, and a checkpoint of a random network for them."""
    root = tmp_path_factory.mktemp("qat")
    rng = np.random.default_rng(0)
    for name in "abcdefghij":
        (root / "images" / name).mkdir(parents=True)
        for index in range(8):
            pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / "images" / name / f"{index}.png")
    save_checkpoint(
        root / "float.safetensors",
        calibrated_network("v1").network,
        labels=tuple("abcdefghij"),
        preprocess=PREPROCESS,
        metadata={},
        half=False,
    )
    return root


def command(folder: Path, output: Path, *more: str) -> list[str]:
    images = str(folder / "images")
    data = ("--data", images, "--eval-data", images, "--output", str(output), "--workers", "0", "--batch", "16")
    return ["--qat", "--from", str(folder / "float.safetensors"), *data, "--epochs", "2", "--quiet", *more]


@pytest.fixture(scope="module")
def trained(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("trained")
    assert main(command(folder, output)) == 0
    return output / "rexnet_025.safetensors"


def test_the_loss_falls(trained: Path) -> None:
    first, last = (json.loads(line) for line in (trained.parent / "log.jsonl").read_text().splitlines())
    assert last["loss"] < first["loss"]


def test_the_checkpoint_brings_the_table_it_was_trained_with(trained: Path, folder: Path) -> None:
    loaded, start = load_checkpoint(trained), load_checkpoint(folder / "float.safetensors")
    assert loaded.labels == tuple("abcdefghij")
    assert loaded.preprocess == PREPROCESS
    table = parse_table(loaded.metadata["qparams"])
    model, before = (float_graph(each.network, PREPROCESS) for each in (loaded, start))
    assert table.rewrites
    assert refitted(apply(model, table.rewrites), table) == table
    weights, old = view(model).constants, view(before).constants
    assert np.array_equal(weights["stem.weight"], old["stem.weight"])
    assert not np.array_equal(weights["logits.weight"], old["logits.weight"])


def test_what_is_stored_answers_as_what_was_trained(trained: Path, folder: Path) -> None:
    loaded = load_checkpoint(trained)
    table = parse_table(loaded.metadata["qparams"])
    network = FakeQuantNetwork(apply(float_graph(loaded.network, PREPROCESS), table.rewrites), table)
    source = open_source(folder / "images", labelled=True)
    pixels = torch.from_numpy(np.stack([np.array(source.load(index)) for index in range(len(source))]))
    with torch.no_grad():
        right = (network(pixels).argmax(1) == torch.tensor(source.labels)).float().mean().item()
    assert right == pytest.approx(float(loaded.metadata["top1"]), abs=1e-4)


def test_it_starts_from_the_table_an_export_makes(trained: Path, folder: Path, tmp_path: Path) -> None:
    loaded, source = load_checkpoint(folder / "float.safetensors"), open_source(folder / "images", labelled=True)
    images = Images(source=source, indices=tuple(choose(source, len(source), seed=0)), labels=None)
    onnx.save(float_graph(loaded.network, PREPROCESS), tmp_path / "float.onnx")
    card = ModelCard(name="tiny", labels=loaded.labels or (), preprocess=PREPROCESS, checkpoint_sha256="0" * 64)
    inputs = Inputs(checkpoint=loaded, card=card, calibration=images, evaluation=images, reading=Reading())
    exported = calibrate(tmp_path, inputs, images, Options(), stored_file(tmp_path / "float.onnx"), Silent()).table
    carried = parse_table(load_checkpoint(trained).metadata["qparams"])
    assert (carried.calibration, carried.rewrites) == (exported.calibration, exported.rewrites)
    ranges, wanted = (
        {name: entry for name, entry in table.tensors.items() if entry.decision == "observed"}
        for table in (carried, exported)
    )
    assert ranges == wanted


def test_it_is_exported_with_its_table(trained: Path, folder: Path, tmp_path: Path) -> None:
    given = ("--checkpoint", str(trained), "--target", "ort", "--eval-data", str(folder / "images"), "--quiet")
    assert export(["--output", str(tmp_path / "out"), *given]) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    loaded = load_checkpoint(trained)
    assert report["calibration"]["source"] == f"{trained.name}, without calibrating"
    assert load_table(tmp_path / "out" / "qparams.json") == parse_table(loaded.metadata["qparams"])
    images = report["reference"]["n"]
    top1 = report["targets"]["ort"]["accuracy"]["top1"]
    assert top1 == pytest.approx(float(loaded.metadata["top1"]), abs=1.5 / images)  # a tie may fall the other way


@pytest.mark.slow
def test_a_resumed_run_equals_an_unbroken_one(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, broken, save = tmp_path / "whole", tmp_path / "broken", QatTrainer.save_state
    assert main(command(folder, whole, *SOON)) == 0

    def save_and_stop(trainer: QatTrainer, output: Path) -> None:
        save(trainer, output)
        raise KeyboardInterrupt

    monkeypatch.setattr(QatTrainer, "save_state", save_and_stop)
    assert main(command(folder, broken, *SOON)) == 130
    monkeypatch.undo()
    assert main(command(folder, broken, *SOON, "--resume")) == 0
    name = "rexnet_025.safetensors"
    assert (broken / name).read_bytes() == (whole / name).read_bytes()


def test_resume_refuses_another_table(trained: Path, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    changed = command(folder, trained.parent, "--resume", *SOON, "--statistic", "percentile-90")
    assert main(changed) == 2
    assert "other network" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(("--width", "0.5"), "--width with --qat", id="width"),
        pytest.param(("--image-size", "64"), "--image-size with --qat", id="size"),
        pytest.param(("--no-se",), "--no-se with --qat", id="se"),
        pytest.param(("--distil", "2"), "--distil 2.0: must be from 0 to 1", id="distil"),
        pytest.param(("--statistic", "most"), "unknown statistic 'most'", id="statistic"),
        pytest.param(("--effort", "most"), "--effort 'most': choose one of fast, default, high", id="effort"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    assert main(command(folder, tmp_path, *arguments)) == 2
    assert said in capfd.readouterr().err


@pytest.mark.parametrize("option", ["--effort", "--statistic", "--distil"])
def test_options_of_qat_need_it(tmp_path: Path, capfd: pytest.CaptureFixture[str], option: str) -> None:
    assert main([option, "1", "--output", str(tmp_path)]) == 2
    assert f"{option} goes with --qat" in capfd.readouterr().err


def test_several_processes_are_refused() -> None:
    source, two = SimpleNamespace(), World(rank=0, size=2, device=torch.device("cpu"))
    with pytest.raises(UsageError, match="one process"):
        QatTrainer(
            ReXNet(calibrated_network("lite").network.spec),
            calibrated_network("lite").table,
            FINE_TUNING,
            PREPROCESS,
            source,  # type: ignore[arg-type]
            source,  # type: ignore[arg-type]
            two,
            distil=1.0,
        )


def test_corrections_and_rounding_are_settled_in_the_weights() -> None:
    tiny = calibrated_network("v1")
    constants, tensors = view(tiny.model).constants, dict(tiny.table.tensors)
    name = "features.3.squeeze"
    mask = np.zeros(constants[f"{name}.weight"].shape, bool)
    mask[::2] = True
    shift = np.linspace(-0.1, 0.1, len(constants[f"{name}.bias"]))
    tensors[f"{name}.weight"] = replace(tensors[f"{name}.weight"], rounding=mask_text(mask))
    tensors[f"{name}.bias"] = replace(tensors[f"{name}.bias"], correction=tuple(shift.tolist()))
    table = replace(tiny.table, tensors=tensors)
    model, plain = settled(tiny.model, table, ())
    assert plain.tensors == tiny.table.tensors
    onnx.checker.check_model(model)
    for kind in ("weight", "bias"):
        before, after = (view(each).constants[f"{name}.{kind}"] for each in (tiny.model, model))
        wanted = table.integers(f"{name}.{kind}", before)
        assert not np.array_equal(wanted, plain.integers(f"{name}.{kind}", before))
        assert np.abs(wanted - plain.integers(f"{name}.{kind}", after)).max() <= (kind == "bias")
