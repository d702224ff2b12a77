"""Training: what a recipe promises, on a network and a data set small enough to train in seconds."""

import json
import math
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rexnet_export.apps.train import main
from rexnet_export.pipeline.augment import Augmentation, augment, random_box
from rexnet_export.pipeline.checkpoint import load_checkpoint
from rexnet_export.pipeline.records import Preprocess
from rexnet_export.pipeline.training import Recipe, learning_rate

SMALL = (
    "--width",
    "0.25",
    "--image-size",
    "32",
    "--batch",
    "16",
    "--workers",
    "0",
    "--crop-area",
    "0.9",
    "--erase",
    "0",
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes a network can tell apart at a glance: dark and bright."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for split, count in (("train", 32), ("val", 16)):
        for name, level in (("dark", 40), ("bright", 215)):
            folder = root / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = rng.normal(level, 20, (40, 40, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{index}.png")
    return root


def command(folders: Path, output: Path, *more: str) -> list[str]:
    data = ("--data", str(folders / "train"), "--eval-data", str(folders / "val"), "--output", str(output))
    return [*data, *SMALL, *more]


def log(output: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (output / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def weights(output: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(next(output.glob("*.safetensors"))).network.state_dict()


def test_learns_and_says_what_it_made(folders: Path, tmp_path: Path) -> None:
    assert main(command(folders, tmp_path, "--epochs", "8", "--rate", "0.05", "--average-decay", "0.9", "--quiet")) == 0
    results = log(tmp_path)
    assert results[-1]["loss"] < results[0]["loss"]
    assert results[-1]["top1"] >= 0.9
    loaded = load_checkpoint(tmp_path / "rexnet_025.safetensors")
    assert loaded.labels == ("bright", "dark")
    assert loaded.preprocess == Preprocess(size=32)
    assert json.loads(loaded.metadata["recipe"])["epochs"] == 8
    assert float(loaded.metadata["top1"]) >= 0.9


def test_resumed_run_equals_an_unbroken_one(folders: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert main(command(folders, whole, "--epochs", "3")) == 0
    script = (
        "import os, sys\n"
        "from rexnet_export.apps import train\n"
        "from rexnet_export.pipeline.training import Trainer\n"
        "save = Trainer.save_state\n"
        "def save_and_die(self, folder):\n"
        "    save(self, folder)\n"
        "    os._exit(9)\n"
        "Trainer.save_state = save_and_die\n"
        "train.main(sys.argv[1:])\n"
    )
    died = subprocess.run([sys.executable, "-P", "-c", script, *command(folders, killed, "--epochs", "3")], check=False)
    assert died.returncode == 9
    assert main([*command(folders, killed, "--epochs", "3"), "--resume"]) == 0
    for name, tensor in weights(whole).items():
        assert torch.equal(tensor, weights(killed)[name]), name


def test_resume_refuses_another_recipe(folders: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(command(folders, tmp_path, "--epochs", "1")) == 0
    assert main([*command(folders, tmp_path, "--epochs", "2"), "--resume"]) == 2
    assert "epochs" in capfd.readouterr().err


def test_resume_of_nothing(folders: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main([*command(folders, tmp_path, "--epochs", "1"), "--resume"]) == 10
    assert "without --resume" in capfd.readouterr().err


@pytest.mark.slow
def test_two_processes_train_one_network(folders: Path, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = command(folders, tmp_path, "--epochs", "1")
    code = "import sys; from rexnet_export.apps.train import main; sys.exit(main(sys.argv[1:]))"
    shared = os.environ | {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
        "OMP_NUM_THREADS": "1",
    }
    processes = [
        subprocess.Popen([sys.executable, "-P", "-c", code, *arguments], env=shared | {"RANK": str(rank)})
        for rank in range(2)
    ]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    assert len(log(tmp_path)) == 1
    assert weights(tmp_path)


def test_learning_rate_warms_up_and_decays_to_nothing() -> None:
    recipe = Recipe(epochs=10, warmup_epochs=2, rate=0.5)
    rates = [learning_rate(recipe, step, 100) for step in range(1000)]
    assert rates[:200] == sorted(rates[:200])
    assert max(rates) == pytest.approx(0.5)
    assert rates[200:] == sorted(rates[200:], reverse=True)
    assert rates[-1] == pytest.approx(0, abs=1e-4)
    assert rates[600] == pytest.approx(0.5 * 0.5 * (1 + math.cos(math.pi / 2)))


def test_augmentation_depends_on_its_generator_alone() -> None:
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (50, 70, 3), dtype=np.uint8))
    views = [augment(image, Preprocess(size=32), Augmentation(), np.random.default_rng(seed)) for seed in (3, 3, 4)]
    assert np.array_equal(views[0], views[1])
    assert not np.array_equal(views[0], views[2])
    assert views[0].shape == (32, 32, 3)


def test_augmentation_switched_off_is_a_plain_resize() -> None:
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    left = augment(image, Preprocess(size=32), Augmentation(crop_area=1, flip=0, erase=0), np.random.default_rng(0))
    mirrored = augment(image, Preprocess(size=32), Augmentation(crop_area=1, flip=1, erase=0), np.random.default_rng(0))
    assert np.array_equal(left, mirrored[:, ::-1])


def test_random_box_stays_inside() -> None:
    rng = np.random.default_rng(0)
    for _ in range(500):
        left, top, right, bottom = random_box((90, 30), 0.1, rng)
        assert 0 <= left < right <= 90 + 1e-9
        assert 0 <= top < bottom <= 30 + 1e-9


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        pytest.param(("--image-size", "50"), 2, "multiple of 32", id="size"),
        pytest.param(("--epochs", "0"), 2, "--epochs 0", id="epochs"),
        pytest.param(("--batch", "4096"), 2, "fewer than one batch", id="batch"),
        pytest.param(("--data", "/nowhere"), 11, "/nowhere", id="data"),
        pytest.param(("--labels", "/nowhere.txt"), 11, "/nowhere.txt", id="labels"),
    ],
)
def test_bad_input_is_one_line(
    folders: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: int, said: str
) -> None:
    assert main(command(folders, tmp_path, *arguments)) == code
    error = capfd.readouterr().err
    assert said in error
    assert error.strip().splitlines()[-1].startswith("rexnet-train: ")
    assert "Traceback" not in error
