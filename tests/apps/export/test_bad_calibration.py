"""Calibration images and networks that INT8 cannot be decided by, through the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_export import small_checkpoint

from rexnet_export.apps.export.command import main
from rexnet_export.pipeline.checkpoint.load import load_checkpoint, save_checkpoint

COUNT = 36
FAST = ("--effort", "fast")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return folder_of(tmp_path / "photos", [noise(seed) for seed in range(COUNT)])


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)


def folder_of(folder: Path, images: list[np.ndarray]) -> Path:
    folder.mkdir()
    for number, pixels in enumerate(images):
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    return folder


def export(checkpoint: Path, images: Path, output: Path, *more: str) -> int:
    flags = ["--target", "ort", "--eval-images", "32", "--calibration-data", str(images), "--output", str(output)]
    return main(["--checkpoint", str(checkpoint), *flags, *more, "--quiet"])


def warnings(output: Path) -> str:
    return " ".join(json.loads((output / "report.json").read_text(encoding="utf-8"))["calibration"]["warnings"])


def changed(checkpoint: Path, path: Path, tensor: str, value: float, channels: int | slice = 3) -> Path:
    """The checkpoint with channels of a BatchNorm's weight or bias replaced."""
    loaded = load_checkpoint(checkpoint)
    with torch.no_grad():
        loaded.network.state_dict()[tensor][channels] = value
    save_checkpoint(path, loaded.network, labels=loaded.labels, preprocess=loaded.preprocess, metadata={}, half=False)
    return path


@pytest.mark.slow
def test_one_image_is_said_to_be_one(checkpoint: Path, tmp_path: Path) -> None:
    one = folder_of(tmp_path / "one", [noise(0)])
    assert export(checkpoint, one, tmp_path / "out") == 0
    assert "from one single image" in warnings(tmp_path / "out")
    assert "too few images to judge INT8 by (1)" in warnings(tmp_path / "out")


@pytest.mark.slow
def test_copies_are_counted(checkpoint: Path, tmp_path: Path) -> None:
    same = folder_of(tmp_path / "same", [noise(seed % 2) for seed in range(COUNT)])
    assert export(checkpoint, same, tmp_path / "out", *FAST) == 0
    assert "34 of 36" in warnings(tmp_path / "out")


@pytest.mark.slow
def test_black_images_are_named(checkpoint: Path, tmp_path: Path) -> None:
    black = folder_of(tmp_path / "black", [np.zeros((32, 32, 3), np.uint8)] * COUNT)
    assert export(checkpoint, black, tmp_path / "out", *FAST) == 0
    assert "all 36 calibration images are the same picture" in warnings(tmp_path / "out")
    assert "36 of 36 calibration images are black" in warnings(tmp_path / "out")


def dead(checkpoint: Path, folder: Path, layer: str, channels: int | slice = 3) -> Path:
    """The checkpoint with channels of a layer that are 0 whatever comes in."""
    half = changed(checkpoint, folder / "half.safetensors", f"{layer}.bn.weight", 0.0, channels)
    return changed(half, folder / f"{layer}.safetensors", f"{layer}.bn.bias", 0.0, channels)


@pytest.mark.slow
@pytest.mark.parametrize("effort", ["fast", "default"])
def test_dead_channels_and_dead_layers_are_named_and_harm_nothing(
    checkpoint: Path, photos: Path, tmp_path: Path, effort: str
) -> None:
    one_channel = dead(checkpoint, tmp_path, "features.5.conv_exp")
    and_a_layer = dead(one_channel, tmp_path, "features.3.conv_exp", slice(None))
    assert export(and_a_layer, photos, tmp_path / "out", "--effort", effort) == 0
    assert "have one value on all calibration images, first features.3.expand" in warnings(tmp_path / "out")
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert report["targets"]["ort"]["int8_mac_fraction"] == 1.0
    assert bool(report["quantization"].get("trials")) == (effort == "default")


def test_values_that_are_not_finite_are_named_with_their_image(
    checkpoint: Path, photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    loud = changed(checkpoint, tmp_path / "loud.safetensors", "features.3.conv_exp.bn.weight", 3e38)
    assert export(loud, photos, tmp_path / "out") == 12
    said = capfd.readouterr().err.replace("\n", " ")
    assert "is not finite on fashion-mnist-evaluation/" in said
    assert not (tmp_path / "out").exists()


def test_a_table_of_another_network_is_refused(
    checkpoint: Path, exported: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    other = small_checkpoint(tmp_path / "other.safetensors", seed=5)
    flags = ["--checkpoint", str(other), "--qparams", str(exported / "qparams.json"), "--target", "ort"]
    assert main([*flags, "--output", str(tmp_path / "out"), "--quiet"]) == 12
    assert "weights or image size differ" in capfd.readouterr().err
    assert not (tmp_path / "out").exists()
