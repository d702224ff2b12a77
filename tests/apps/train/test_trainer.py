"""Training: what a recipe promises, on a network and a data set small enough to train in seconds."""

import json
import math
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from rexnet_export.apps.train.augment import augment, random_box
from rexnet_export.apps.train.command import main
from rexnet_export.apps.train.options import VARIANTS, parser
from rexnet_export.apps.train.recipe import Augmentation, Recipe, batch_sizes, learning_rate
from rexnet_export.apps.train.trainer import Trainer
from rexnet_export.pipeline.checkpoint.load import load_checkpoint
from rexnet_export.pipeline.core.records import Preprocess
from rexnet_export.pipeline.data.preprocess import resize_and_crop
from rexnet_export.pipeline.model import architecture
from rexnet_export.pipeline.model.torch_session import open_reference

SMALL = (
    "--width",
    "0.25",
    "--depth",
    "0.2",
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
    "--warmup-epochs",
    "0.5",
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


@pytest.mark.slow
def test_learns_and_says_what_it_made(folders: Path, tmp_path: Path) -> None:
    assert (
        main(command(folders, tmp_path, "--epochs", "20", "--rate", "0.05", "--average-decay", "0.8", "--quiet")) == 0
    )
    results = log(tmp_path)
    assert results[-1]["loss"] < results[0]["loss"]
    assert results[-1]["top1"] >= 0.9
    loaded = load_checkpoint(tmp_path / "rexnet_025.safetensors")
    assert loaded.labels == ("bright", "dark")
    assert loaded.preprocess == Preprocess(size=32)
    assert json.loads(loaded.metadata["recipe"])["epochs"] == 20
    assert float(loaded.metadata["top1"]) >= 0.9


@pytest.mark.slow
def test_resumed_run_equals_an_unbroken_one(folders: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert main(command(folders, whole, "--epochs", "3")) == 0
    script = (
        "import os, sys\n"
        "from rexnet_export.apps.train import command\n"
        "from rexnet_export.apps.train.trainer import Trainer\n"
        "save = Trainer.save_state\n"
        "def save_and_die(self, folder):\n"
        "    save(self, folder)\n"
        "    os._exit(9)\n"
        "Trainer.save_state = save_and_die\n"
        "command.main(sys.argv[1:])\n"
    )
    died = subprocess.run([sys.executable, "-P", "-c", script, *command(folders, killed, "--epochs", "3")], check=False)
    assert died.returncode == 9
    assert main([*command(folders, killed, "--epochs", "3"), "--resume"]) == 0
    resumed = weights(killed)
    for name, tensor in weights(whole).items():
        assert torch.equal(tensor, resumed[name]), name


@pytest.fixture(scope="module")
def finished(folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of one epoch."""
    output = tmp_path_factory.mktemp("finished")
    assert main(command(folders, output, "--epochs", "1")) == 0
    return output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(("--epochs", "2"), "epochs", id="recipe"),
        pytest.param(("--width", "0.3"), "network", id="network"),
        pytest.param(("--depth", "0.5"), "network", id="depth"),
        pytest.param(("--interpolation", "bilinear"), "preprocess", id="preprocess"),
        pytest.param(("--labels", "labels.txt"), "labels", id="labels"),
        pytest.param(("--data", "fewer"), "training images", id="images"),
    ],
)
def test_resume_refuses_another_run(
    folders: Path,
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("labels.txt").write_text("dark\nbright\n", encoding="utf-8")
    shutil.copytree(folders / "train", "fewer")
    Path("fewer/dark/0.png").unlink()
    assert main([*command(folders, finished, "--epochs", "1"), *arguments, "--resume"]) == 2
    assert f"other {said}" in capfd.readouterr().err


@pytest.mark.parametrize("damaged", [b"", b"PK", None], ids=["empty", "cut", "foreign"])
def test_resume_refuses_a_damaged_state(
    folders: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], damaged: bytes | None
) -> None:
    state = tmp_path / "state.pt"
    if damaged is None:
        torch.save({"epoch": 1}, state)
    else:
        state.write_bytes(damaged)
    assert main([*command(folders, tmp_path, "--epochs", "1"), "--resume"]) == 10
    assert "damaged" in capfd.readouterr().err


def test_fresh_run_leaves_a_begun_one_alone(folders: Path, finished: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = (finished / "state.pt").read_bytes(), (finished / "log.jsonl").read_bytes()
    assert main(command(folders, finished, "--epochs", "1")) == 2
    assert "--resume" in capfd.readouterr().err
    assert before == ((finished / "state.pt").read_bytes(), (finished / "log.jsonl").read_bytes())


def test_interrupted_before_the_first_epoch_starts_again(
    folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    (tmp_path / "log.jsonl").write_text("an older run's\n", encoding="utf-8")
    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "_train_epoch", interrupt)
        assert main(command(folders, tmp_path, "--epochs", "1")) == 130
    assert "before the first, start again" in capfd.readouterr().err
    assert main(command(folders, tmp_path, "--epochs", "1")) == 0
    assert len(log(tmp_path)) == 1


@pytest.mark.slow
def test_classes_are_matched_by_name(folders: Path, tmp_path: Path) -> None:
    """Labels in another order than the folders', and evaluation images of the last class only."""
    labels = tmp_path / "labels.txt"
    labels.write_text("dark\nBright\n", encoding="utf-8")
    shutil.copytree(folders / "val" / "bright", tmp_path / "val" / "bright")
    learning = ("--epochs", "12", "--rate", "0.05", "--average-decay", "0.9")
    arguments = ("--labels", str(labels), "--eval-data", str(tmp_path / "val"), *learning)
    assert main(command(folders, tmp_path / "out", *arguments)) == 0
    loaded = load_checkpoint(tmp_path / "out" / "rexnet_025.safetensors")
    assert loaded.labels == ("dark", "Bright")
    assert float(loaded.metadata["top1"]) >= 0.9
    images = [Image.open(folders / "val" / name / "0.png") for name in ("dark", "bright")]
    pixels = np.stack([resize_and_crop(image, Preprocess(size=32)) for image in images])
    assert open_reference(loaded.network, Preprocess(size=32), cuda=False).run(pixels).argmax(1).tolist() == [0, 1]


def test_unknown_evaluation_class(folders: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(folders / "val" / "bright", tmp_path / "val" / "blinding")
    assert main(command(folders, tmp_path / "out", "--eval-data", str(tmp_path / "val"))) == 11
    assert "'blinding'" in capfd.readouterr().err


@pytest.mark.parametrize("split", ["train", "val"])
def test_unusable_image_is_named_before_training(
    folders: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], split: str
) -> None:
    shutil.copytree(folders, tmp_path / "images")
    (tmp_path / "images" / split / "dark" / "3.png").write_bytes(b"no image")
    assert main(command(tmp_path / "images", tmp_path / "out")) == 11
    error = capfd.readouterr().err
    assert "dark/3.png (not an image)" in error
    assert "evaluation images on" not in error


def test_an_image_that_cannot_be_decoded_is_named_before_the_first_epoch(
    folders: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(folders, tmp_path / "images")
    cut = tmp_path / "images" / "train" / "dark" / "3.png"
    cut.write_bytes(cut.read_bytes()[:200])  # its header is sound
    assert main([*command(tmp_path / "images", tmp_path / "out"), "--workers", "1", "--quiet"]) == 11
    lines = capfd.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("rexnet-train: train: 1 of ")
    assert "dark/3.png (" in lines[0]


@pytest.mark.parametrize("name", ["state.pt.tmp", "log.jsonl"])
def test_full_disk_is_one_line(folders: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str) -> None:
    (tmp_path / name).symlink_to("/dev/full")
    assert main([*command(folders, tmp_path, "--epochs", "1"), "--quiet"]) == 2
    assert f"{tmp_path} cannot be written (No space left on device)" in capfd.readouterr().err


def test_unwritable_final_file_is_one_line(folders: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rexnet_025.safetensors").mkdir()
    assert main(command(folders, tmp_path, "--epochs", "1")) == 2
    assert f"{tmp_path} cannot be written" in capfd.readouterr().err


@pytest.mark.parametrize(("name", "reason"), [("file/out", "Not a directory"), ("long" * 100, "File name too long")])
def test_output_that_no_folder_can_be(
    folders: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str, reason: str
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert main(command(folders, tmp_path / name)) == 2
    assert f"cannot be written ({reason})" in capfd.readouterr().err


def test_command_line_does_not_wait_for_torch() -> None:
    code = "import sys; from rexnet_export.apps.train.command import parser; parser(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-P", "-c", code], check=False).returncode == 0
    assert VARIANTS == architecture.VARIANTS


def test_resume_of_nothing(folders: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main([*command(folders, tmp_path, "--epochs", "1"), "--resume"]) == 10
    assert "without --resume" in capfd.readouterr().err


@pytest.mark.slow
def test_two_processes_train_one_network(folders: Path, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = command(folders, tmp_path, "--epochs", "1")
    code = (
        "import os, sys, torch\n"
        "from rexnet_export.apps.train.command import main\n"
        "from rexnet_export.apps.train.trainer import Trainer\n"
        "top1 = Trainer.top1\n"
        "def saving_top1(self, network, progress):\n"
        "    torch.save(network.state_dict(), os.environ['EVALUATED'])\n"
        "    return top1(self, network, progress)\n"
        "Trainer.top1 = saving_top1\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    evaluated = [tmp_path / f"evaluated-{rank}.pt" for rank in range(2)]
    shared = os.environ | {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
        "OMP_NUM_THREADS": "1",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-P", "-c", code, *arguments], env=shared | {"RANK": str(rank), "EVALUATED": str(file)}
        )
        for rank, file in enumerate(evaluated)
    ]
    assert [process.wait(timeout=600) for process in processes] == [0, 0]
    assert len(log(tmp_path)) == 1
    first, second = (torch.load(file, weights_only=True) for file in evaluated)
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name
    assert weights(tmp_path)


def test_learning_rate_warms_up_and_decays_to_nothing() -> None:
    recipe = Recipe(epochs=10, warmup_epochs=2, rate=0.5)
    rates = [learning_rate(recipe, step, 100) for step in range(1000)]
    assert rates[:200] == sorted(rates[:200])
    assert max(rates) == pytest.approx(0.5)
    assert rates[200:] == sorted(rates[200:], reverse=True)
    assert rates[-1] == pytest.approx(0, abs=1e-4)
    assert rates[600] == pytest.approx(0.5 * 0.5 * (1 + math.cos(math.pi / 2)))


@pytest.mark.parametrize(
    ("images", "batch", "processes", "sizes"),
    [
        (64, 16, 1, (16, 16, 16, 16)),
        (65, 16, 1, (13,) * 5),
        (33, 16, 1, (11, 11, 11)),
        (17, 16, 1, (9, 8)),
        (16, 16, 1, (16,)),
        (3, 2, 1, (3,)),  # a batch of one image is none for BatchNorm
        (5, 2, 1, (3, 2)),
        (5, 4, 1, (3, 2)),
        (33, 16, 2, (12, 12, 10)),  # one image twice, so that all shares are equal
        (9, 4, 2, (6, 4)),
    ],
)
def test_every_image_is_in_an_even_batch(images: int, batch: int, processes: int, sizes: tuple[int, ...]) -> None:
    assert batch_sizes(images, batch, processes) == sizes


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_batches_have_every_image_and_no_share_of_one(processes: int) -> None:
    for images in range(6, 80):
        for batch in range(2 * processes, images + 1, processes):
            sizes = batch_sizes(images, batch, processes)
            assert images <= sum(sizes) < images + processes
            assert max(sizes) - min(sizes) in {0, processes}
            assert min(sizes) >= 2 * processes
            assert all(size % processes == 0 for size in sizes)
            assert max(sizes) <= max(batch, 3 * processes)


def test_an_epoch_takes_every_image(
    folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """64 images in batches of at most 21 or of 63: the last one is not dropped, and is not a single image."""
    taken: list[int] = []
    step = Trainer._step

    def noted(self: Trainer, model: Any, pixels: Any, labels: Any, rate: float) -> Any:  # noqa: ANN401 - torch's
        taken.append(len(labels))
        return step(self, model, pixels, labels, rate)

    monkeypatch.setattr(Trainer, "_step", noted)
    for batch, sizes in (("21", [16] * 4), ("63", [32, 32])):
        taken.clear()
        assert main(command(folders, tmp_path / batch, "--epochs", "1", "--batch", batch)) == 0
        assert taken == sizes
    assert "64 training" in capfd.readouterr().err


@pytest.mark.parametrize(("epochs", "warmup"), [(1, 0.5), (2, 1.0), (12, 1.0)])
def test_a_short_run_warms_up_for_half_of_it(epochs: int, warmup: float) -> None:
    options = parser().parse_args(["--epochs", str(epochs)])
    options.settle(options)
    assert options.asked_recipe.warmup_epochs == warmup


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
        pytest.param(("--image-size", "50"), 2, "multiple of 16", id="size"),
        pytest.param(("--epochs", "0"), 2, "--epochs 0", id="epochs"),
        pytest.param(("--width", "0"), 2, "--width 0.0", id="width"),
        pytest.param(("--width", "nan"), 2, "--width nan", id="width-nan"),
        pytest.param(("--depth", "5"), 2, "--depth 5.0: must be from 0.01 to 4.0", id="depth"),
        pytest.param(("--crop-ratio", "0"), 2, "--crop-ratio 0:", id="crop-ratio"),
        pytest.param(("--crop-area", "1.5"), 2, "--crop-area 1.5", id="crop-area"),
        pytest.param(("--flip", "-1"), 2, "--flip -1.0", id="flip"),
        pytest.param(("--erase", "2"), 2, "--erase 2.0", id="erase"),
        pytest.param(("--rate", "0"), 2, "--rate 0.0", id="rate"),
        pytest.param(("--rate", "inf"), 2, "--rate inf", id="rate-inf"),
        pytest.param(("--warmup-epochs", "12"), 2, "below --epochs 12", id="warmup"),
        pytest.param(("--weight-decay", "-0.1"), 2, "--weight-decay -0.1", id="weight-decay"),
        pytest.param(("--label-smoothing", "2"), 2, "--label-smoothing 2.0", id="label-smoothing"),
        pytest.param(("--average-decay", "1"), 2, "--average-decay 1.0", id="average-decay"),
        pytest.param(("--seed", "-1"), 2, "--seed -1", id="seed"),
        pytest.param(("--seed", "4294967296"), 2, "4294967295", id="seed-large"),
        pytest.param(("--workers", "-1"), 2, "--workers -1", id="workers"),
        pytest.param(("--batch", "1"), 2, "--batch 1", id="batch-of-one"),
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
