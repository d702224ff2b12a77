"""`rexnet-study control`: a ReXNet and a MobileNetV2 of equal multiply-accumulates, trained the same way."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rexnet_export.apps.shared.terminal import Terminal
from rexnet_export.apps.train.recipe import Augmentation, Recipe, check
from rexnet_export.pipeline.core.files import try_file, writing

if TYPE_CHECKING:
    from torch import nn

    from rexnet_export.pipeline.core.records import Preprocess
    from rexnet_export.pipeline.data.sources import ImageSource

HELP = "train a ReXNet and a MobileNetV2 of equal multiply-accumulates the same way, to compare their features"
OUTPUT = Path("rexnet-study-out")
CONTROL = "control.safetensors"
RECIPE = Recipe(epochs=20, batch=64, rate=0.1, average_decay=0.9, augmentation=Augmentation(crop_area=0.7, erase=0.0))


def add_options(p: argparse.ArgumentParser) -> None:
    """The command line."""
    p.add_argument("--data", type=Path, metavar="DIR", help="training images (default: the bundled sample)")
    p.add_argument("--eval-data", type=Path, metavar="DIR", help="evaluation images (default: the bundled sample)")
    p.add_argument("--eval-images", type=int, default=1000, metavar="N", help="how many of them (default 1000)")
    p.add_argument("--image-size", type=int, default=64, metavar="PX", help="a multiple of 32 (default 64)")
    p.add_argument("--width", type=float, default=1.0, help="of the ReXNet (default 1.0)")
    p.add_argument("--epochs", type=int, default=RECIPE.epochs, help=f"(default {RECIPE.epochs})")
    p.add_argument("--batch", type=int, default=RECIPE.batch, help=f"(default {RECIPE.batch})")
    p.add_argument("--rate", type=float, default=RECIPE.rate, help=f"peak learning rate (default {RECIPE.rate})")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--output", type=Path, default=OUTPUT, metavar="DIR", help=f"(default {OUTPUT})")


def run(options: argparse.Namespace, terminal: Terminal) -> None:
    """Train both and write `rexnet_NNN.safetensors` and `control.safetensors`."""
    size, width = options.image_size, options.width
    check("image-size", size, "a multiple of 32", allowed=size >= 32 and size % 32 == 0)
    check("width", width, "from 0.1 to 3", allowed=0.1 <= width <= 3)
    check("eval-images", options.eval_images, "at least 1", allowed=options.eval_images >= 1)
    asked = {"epochs": options.epochs, "batch": options.batch, "rate": options.rate, "seed": options.seed}
    recipe = replace(RECIPE, warmup_epochs=min(1.0, options.epochs / 2), **asked)
    # Imported late: torch alone takes seconds, and a wrong option should not wait for it.
    from rexnet_export.apps.study.common.bottleneck_network import (  # noqa: PLC0415
        BottleneckNetwork,
        cost_of,
        mobilenet_v2_of,
        save_network,
    )
    from rexnet_export.pipeline.checkpoint.load import save_checkpoint  # noqa: PLC0415
    from rexnet_export.pipeline.core.records import Preprocess  # noqa: PLC0415
    from rexnet_export.pipeline.data.sources import check_images, training_images  # noqa: PLC0415
    from rexnet_export.pipeline.data.subset import some  # noqa: PLC0415
    from rexnet_export.pipeline.model.rexnet import ReXNet, architecture, cost  # noqa: PLC0415

    training, evaluation, labels = training_images(options.data, options.eval_data, None)
    evaluation = some(evaluation, options.eval_images, options.seed)
    for source in (training, evaluation):
        check_images(source, range(len(source)))
    preprocess = Preprocess(size=size, crop_ratio=1.0)
    spec = architecture(width=width, classes=len(labels))
    path = options.output / f"{spec.name}.safetensors"
    with writing(options.output):
        for place in (path, options.output / CONTROL):
            try_file(place)
    macs = cost(spec, size).macs
    plan = mobilenet_v2_of(macs, size, len(labels))
    terminal.note(f"{spec.name}: {macs:,} multiply-accumulates; {plan.name}: {cost_of(plan, size).macs:,}")
    network = _trained(lambda: ReXNet(spec), recipe, preprocess, training, evaluation, terminal)
    assert isinstance(network, ReXNet)
    with writing(options.output):
        save_checkpoint(path, network, labels=labels, preprocess=preprocess, metadata={}, half=False)
    control = _trained(lambda: BottleneckNetwork(plan), recipe, preprocess, training, evaluation, terminal)
    assert isinstance(control, BottleneckNetwork)
    with writing(options.output):
        save_network(options.output / CONTROL, control, preprocess, labels)
    terminal.note(f"{path} and {CONTROL} written")


def _trained(
    make: Callable[[], nn.Module],
    recipe: Recipe,
    preprocess: Preprocess,
    training: ImageSource,
    evaluation: ImageSource,
    terminal: Terminal,
) -> nn.Module:
    """The averaged weights after the recipe; both networks begin from the same seed."""
    import torch  # noqa: PLC0415

    from rexnet_export.apps.train.distributed import world  # noqa: PLC0415
    from rexnet_export.apps.train.trainer import Trainer  # noqa: PLC0415

    torch.manual_seed(recipe.seed)
    trainer = Trainer(make(), recipe, preprocess, training, evaluation, world())
    for result in trainer.epochs(terminal, workers=0):
        terminal.note(
            f"{type(trainer.network).__name__} epoch {result.epoch}/{recipe.epochs}  loss {result.loss:.4f}  "
            f"top-1 {result.top1:.2%}  {result.images_per_second:,.0f} images/s"
        )
    averaged: nn.Module = trainer.averaged.module.eval()
    return averaged
