"""Heads that are more than one linear layer, through the whole road: exported, proven again, asked, and judged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from small_export import FEW, small_checkpoint
from torch import nn

from rexnet_export.apps.export.command import main
from rexnet_export.apps.gate.command import main as gate
from rexnet_export.pipeline.checkpoint.load import load_checkpoint
from rexnet_export.pipeline.core.records import HeadOutput, ModelCard, Preprocess
from rexnet_export.pipeline.data.sources import bundled

SIZE = ("--image-size", "32", "--crop-ratio", "1", "--mean", "0.5", "0.5", "0.5", "--std", "1", "1", "1")
NO_CLASSES = {"not_measured": "the network gives numbers, not classes"}


@pytest.fixture(scope="module")
def two_heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trunk with two heads, `kind` of 10 classes behind a hidden layer and `age` of one number."""
    folder = tmp_path_factory.mktemp("two-heads")
    trunk = load_checkpoint(small_checkpoint(folder / "trunk.safetensors")).network
    torch.manual_seed(5)
    kind = nn.Sequential(nn.Linear(640, 12), nn.Hardswish(), nn.Linear(12, 10))
    age = nn.Linear(640, 1)
    nn.init.normal_(kind[0].weight, std=0.3)
    nn.init.uniform_(age.weight, 0.0, 0.1)  # what does not cancel shows INT8's noise, not the seed's
    heads = nn.ModuleDict({"age": age, "kind": kind})
    state = {f"net.{name}": each for name, each in trunk.state_dict().items() if not name.startswith("head.")}
    torch.save(state | dict(heads.state_dict()), folder / "two.pth")
    (folder / "labels.txt").write_text("\n".join(bundled("evaluation").class_names or ()), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def release(two_heads: Path) -> Path:
    out = two_heads / "out"
    arguments = ["--checkpoint", str(two_heads / "two.pth"), "--head-activation", "hardswish", *SIZE, *FEW]
    assert main([*arguments, "--labels", str(two_heads / "labels.txt"), "--output", str(out), "--quiet"]) == 0
    return out


@pytest.mark.slow
def test_every_target_gives_both_heads_in_int8(release: Path) -> None:
    report = json.loads((release / "report.json").read_text(encoding="utf-8"))
    assert report["model"]["heads"] == [{"name": "head.age", "numbers": 1}]
    assert any("2 heads (age: 1, kind: 10): the logits are those of kind" in line for line in report["notices"])
    for name in ("coreml", "tflite", "ort"):
        target = report["targets"][name]
        for file in (target, *target["presets"].values()):
            assert (file["int8_mac_fraction"], file["float_ops"]) == (1, [])
            assert list(file["outputs"]) == ["logits", "head.age"]
            assert min(output["sqnr_db"] for output in file["outputs"].values()) > 20
        assert target["qparams_equal"] is True
        assert target["agreement_with_reference"] > 0.8
    assert report["targets"]["gpu"]["outputs"]["head.age"]["largest_difference"] < 1e-5


@pytest.mark.slow
def test_further_targets_give_both_heads_too(release: Path, tmp_path: Path) -> None:
    flags = ["--target", "tflite", "--eval-images", "16", "--quiet"]
    assert main(["--checkpoint", str(release), *flags, "--output", str(tmp_path / "more")]) == 0
    (name,) = [path.name for path in release.glob("*.tflite")]
    assert (tmp_path / "more" / name).read_bytes() == (release / name).read_bytes()


@pytest.mark.slow
def test_they_are_proven_again_and_asked(release: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(release), "--eval-images", "8", "--trace-images", "1", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["proven"] is True
    bundled("evaluation").load(0).save(tmp_path / "photo.png")
    answers = {}
    for target in ("coreml", "tflite", "ort", "gpu"):
        assert main(["predict", str(release), str(tmp_path / "photo.png"), "--target", target, "--json"]) == 0
        (answers[target],) = json.loads(capfd.readouterr().out)["predictions"]
    float_age = answers["gpu"]["numbers"]["head.age"]
    for answer in answers.values():
        assert len(answer["guesses"]) == 5
        assert answer["numbers"]["head.age"] == pytest.approx(float_age, rel=0.1)


def test_a_network_of_numbers_has_no_top1(two_heads: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    for index in range(8):
        bundled("evaluation").load(index).save(photos / f"{index}.png")
    arguments = ["--checkpoint", str(two_heads / "two.pth"), "--head-activation", "hardswish", "--head", "age", *SIZE]
    arguments += [
        "--calibration-data",
        str(photos),
        "--eval-data",
        str(photos),
        "--target",
        "ort",
        "--target",
        "coreml",
    ]
    assert main([*arguments, "--effort", "fast", "--output", str(out), "--quiet"]) == 0
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert (report["model"]["labels"], report["model"]["numbers"]) == ([], 1)
    for target in report["targets"].values():
        assert target["logit_sqnr_db"] > 12
        for measured in ("accuracy", "agreement_with_reference"):
            assert target[measured] == NO_CLASSES
    assert set(report["image_noise"]) == {"ort", "ort x86", "ort vnni", "ort npu", "coreml"}
    assert all(noise == NO_CLASSES for noise in report["image_noise"].values())
    assert main(["predict", str(out), str(photos / "0.png"), "--target", "coreml"]) == 0
    assert ": logits " in capfd.readouterr().out
    assert main(["verify", str(out), "--quiet"]) == 0
    assert main(["--checkpoint", str(out), "--target", "ort", "--output", str(tmp_path / "more"), "--quiet"]) == 0
    for path in out.glob("*.ort"):
        assert (tmp_path / "more" / path.name).read_bytes() == path.read_bytes()
    scores = ["--scores", "logits", "--target", "ort", "--output", str(tmp_path / "none")]
    assert main(["--checkpoint", str(out), *scores, "--quiet"]) == 2
    assert "--scores logits: a network that gives numbers has no classes" in capfd.readouterr().err
    assert gate(["check", str(out)]) == 11
    assert "gives numbers, not classes; the gate compares top-1" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("flags", "code", "reason"),
    [
        (("--head", "size"), 2, "--head size names no head of"),
        (
            ("--head-activation", "gelu"),
            2,
            "--head-activation 'gelu': choose one of relu, relu6, silu, hardswish, tanh",
        ),
        (("--head-activation", "relu", "--head", "age", "--max-drop", "1"), 2, "a network that gives numbers has no"),
        (("--regression", "--scores", "logits"), 2, "--regression and --scores: numbers have no classes"),
        (
            ("--head", "age", "--scores", "probabilities"),
            2,
            "--scores probabilities: a network that gives numbers has no",
        ),
        (("--regression", "--max-drop", "1"), 2, "--regression and --max-drop: numbers have no classes"),
        ((), 10, "give --head-activation (relu, relu6, silu, hardswish, tanh, none)"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(
    two_heads: Path, flags: tuple[str, ...], code: int, reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    told = () if "--head-activation" in flags or not flags else ("--head-activation", "relu")
    assert main(["--checkpoint", str(two_heads / "two.pth"), *told, *flags, "--output", str(two_heads / "no")]) == code
    assert reason in " ".join(capfd.readouterr().err.split())
    assert not (two_heads / "no").exists()


def test_a_card_with_heads_or_numbers_survives_metadata() -> None:
    from rexnet_export.pipeline.artifact.metadata import card_from, describe  # noqa: PLC0415

    card = ModelCard(
        name="rexnet_010",
        labels=(),
        preprocess=Preprocess(size=32),
        checkpoint_sha256="0" * 64,
        heads=(HeadOutput(name="head.age", numbers=3),),
        numbers=2,
    )
    assert card_from(describe(card, precision="int8")) == card
    assert (card.outputs, card.answers) == (("logits", "head.age"), 2)
    assert np.array_equal([head.numbers for head in card.heads], [3])
