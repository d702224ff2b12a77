"""A trained network for other classes, and the paper's recipe: what moves, what stays, what is said and refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from depths import SHORT
from PIL import Image
from random_networks import random_network
from synthetic_images import Blobs

from rexnet_export.apps.train.command import main
from rexnet_export.apps.train.distributed import World
from rexnet_export.apps.train.optimizer import parameter_groups
from rexnet_export.apps.train.recipe import Recipe
from rexnet_export.apps.train.trainer import Trainer
from rexnet_export.apps.train.transfer import with_new_head
from rexnet_export.pipeline.checkpoint.load import load_checkpoint, save_checkpoint
from rexnet_export.pipeline.core.progress import Silent
from rexnet_export.pipeline.core.records import Preprocess
from rexnet_export.pipeline.data.subset import held_out

CPU = World(rank=0, size=1, device=torch.device("cpu"))
QUICK = ("--epochs", "1", "--batch", "8", "--workers", "0", "--image-size", "32")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trained") / "small.safetensors"
    labels = tuple(f"old {index}" for index in range(10))
    preprocess = Preprocess(size=32, mean=(0.4, 0.5, 0.6))
    save_checkpoint(
        path, random_network("v1", 0.25, stages=SHORT), labels=labels, preprocess=preprocess, metadata={}, half=False
    )
    return path


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photos")
    for name, level in (("dark", 40), ("grey", 128), ("bright", 215)):
        (root / name).mkdir()
        for index in range(10):
            pixels = np.random.default_rng(index).normal(level, 10, (40, 40, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{index}.png")
    return root


def trained(recipe: Recipe) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """A network's state before and after a run."""
    torch.manual_seed(0)
    network = with_new_head(random_network("v1", 0.25, stages=SHORT), 3)
    before = {name: values.clone() for name, values in network.state_dict().items()}
    trainer = Trainer(network, recipe, Preprocess(size=32), Blobs(24, 3), Blobs(6, 3), CPU)
    list(trainer.epochs(Silent(), workers=0))
    return before, trainer.network.state_dict()


def test_everything_below_the_classifier_is_kept() -> None:
    old = random_network("v1", 0.25, stages=SHORT)
    new = with_new_head(old, 3)
    assert new.spec.classes == 3
    assert new.head.fc.weight.shape == (3, old.spec.penultimate)
    kept = {name: values for name, values in new.state_dict().items() if not name.startswith("head.fc.")}
    assert kept.keys() == {name for name in old.state_dict() if not name.startswith("head.fc.")}
    assert all(torch.equal(values, old.state_dict()[name]) for name, values in kept.items())


def test_only_the_head_moves_while_the_rest_is_frozen() -> None:
    before, after = trained(Recipe(epochs=2, batch=8, frozen_epochs=1, warmup_epochs=0))
    assert not torch.equal(before["stem.conv.weight"], after["stem.conv.weight"])  # the second epoch
    before, after = first_epoch(Recipe(epochs=2, batch=8, frozen_epochs=1, warmup_epochs=0))
    moved = {name for name, values in before.items() if not torch.equal(values, after[name])}
    assert moved == {"head.fc.weight", "head.fc.bias"}


def first_epoch(recipe: Recipe) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    network = with_new_head(random_network("v1", 0.25, stages=SHORT), 3)
    before = {name: values.clone() for name, values in network.state_dict().items()}
    trainer = Trainer(network, recipe, Preprocess(size=32), Blobs(24, 3), Blobs(6, 3), CPU)
    next(trainer.epochs(Silent(), workers=0))
    return before, trainer.network.state_dict()


def test_each_layer_learns_slower_than_the_one_above() -> None:
    network = random_network("v1", 0.25, stages=SHORT)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    scales = {names[id(p)]: g["scale"] for g in parameter_groups(network, 1e-4, 0.5) for p in g["params"]}
    assert scales.keys() == dict(network.named_parameters()).keys()
    assert scales["head.fc.weight"] == scales["head.fc.bias"] == 1
    assert scales["features.6.conv.weight"] == 0.5
    assert scales["features.5.conv_exp.conv.weight"] == scales["features.5.se.bn.bias"] == 0.25
    assert scales["features.0.conv_dw.bn.weight"] == 0.5**7
    assert scales["stem.conv.weight"] == 0.5**8
    decays = {g["weight_decay"] for g in parameter_groups(network, 1e-4, 0.5) for p in g["params"] if p.ndim == 1}
    assert decays == {0.0}


def test_a_step_moves_lower_layers_less() -> None:
    torch.manual_seed(0)
    before, alike = first_epoch(Recipe(epochs=1, batch=24, warmup_epochs=0, seed=1))
    _, decayed = first_epoch(Recipe(epochs=1, batch=24, warmup_epochs=0, seed=1, layer_decay=0.5))
    name = "features.5.conv_exp.conv.weight"
    ratio = (decayed[name] - before[name]).norm() / (alike[name] - before[name]).norm()
    assert float(ratio) == pytest.approx(0.25, rel=0.01)


def test_a_share_of_every_class_is_held_out() -> None:
    training, evaluation = held_out(Blobs(30, 3), 0.2, seed=0)
    assert (len(training), len(evaluation)) == (24, 6)
    assert sorted(evaluation.labels or []) == [0, 0, 1, 1, 2, 2]
    assert not set(training.ids) & set(evaluation.ids)


def test_the_command_makes_a_network_of_the_new_classes(checkpoint: Path, photos: Path, tmp_path: Path) -> None:
    given = ["--from", str(checkpoint), "--data", str(photos), "--classes", "3", "--output", str(tmp_path), "--quiet"]
    assert main([*given, "--epochs", "6", "--batch", "8", "--rate", "0.05", "--workers", "0", "--erase", "0"]) == 0
    loaded = load_checkpoint(tmp_path / "rexnet_025.safetensors")
    assert loaded.labels == ("bright", "dark", "grey")
    assert loaded.preprocess == Preprocess(size=32, mean=(0.4, 0.5, 0.6))
    assert json.loads(loaded.metadata["recipe"])["layer_decay"] == 0.9
    assert loaded.metadata["evaluation_images"] == "6"
    losses = [json.loads(line)["loss"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        (["--classes", "4"], 11, "--classes 4, but"),
        (["--classes", "1"], 2, "--classes 1"),
        (["--width", "1.0"], 2, "--width with --from"),
        (["--recipe", "imagenet"], 2, "--recipe imagenet trains a new network"),
        (["--frozen-epochs", "1"], 2, "--frozen-epochs 1"),
        (["--layer-decay", "0"], 2, "--layer-decay 0.0"),
        (["--randaugment", "11"], 2, "--randaugment 11.0"),
        (["--from", "nowhere.pth"], 10, "no checkpoint at nowhere.pth"),
        (["--data", "nowhere"], 11, "nowhere"),
        (["--qat", "--image-size", "32"], 2, "--image-size with --qat"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_leaves_nothing(
    given: list[str],
    code: int,
    said: str,
    checkpoint: Path,
    photos: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "out"
    usual = ["--from", str(checkpoint), "--data", str(photos), "--output", str(output), "--quiet", *QUICK]
    assert main([*usual, *given]) == code
    message = capfd.readouterr().err
    assert said in message
    assert len(message.strip().splitlines()) == 1
    assert not output.exists()


def test_classes_without_a_checkpoint_are_refused(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["--classes", "3"]) == 2
    assert "--classes goes with --from" in capfd.readouterr().err


def test_the_papers_recipe_says_what_was_published(
    photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = ["--data", str(photos), "--eval-data", str(photos), "--output", str(tmp_path)]
    assert main(["--recipe", "imagenet", *data, *QUICK]) == 0
    said = capfd.readouterr().err
    expected = (
        "expected: top-1 77.9% on ImageNet-1k at 224 px, published of rexnet_100; 3 classes at 32 px do not compare"
    )
    assert said.count(f"--eval-data {photos} is what is trained on, so its accuracy is flattered") == 1
    assert said.count(expected) == 2  # before the first epoch, and beside what was reached
    path = tmp_path / "rexnet_100.safetensors"
    last = said.rstrip().splitlines()[-1]
    assert last.startswith(f"done: {path} has top-1 ")
    assert "that is no better than guessing (33.33%): begin with a trained network (--from)" in last
    recipe = json.loads(load_checkpoint(tmp_path / "rexnet_100.safetensors").metadata["recipe"])
    assert recipe["augmentation"] == {"crop_area": 0.08, "flip": 0.5, "erase": 0.2, "randaugment": 9.0}
    assert (recipe["rate"], recipe["weight_decay"], recipe["label_smoothing"]) == (0.5, 1e-5, 0.1)
