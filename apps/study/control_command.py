"""`rexnet-study control`: a ReXNet and a MobileNetV2 of equal multiply-accumulates, trained the same way."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from rexnet_export.apps.train.recipe import Augmentation, Recipe, check

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
    p.set_defaults(settle=_settle)


def _settle(options: argparse.Namespace) -> None:
    size, width = options.image_size, options.width
    check("image-size", size, "a multiple of 32", allowed=size >= 32 and size % 32 == 0)
    check("width", width, "from 0.1 to 3", allowed=0.1 <= width <= 3)
    check("eval-images", options.eval_images, "at least 1", allowed=options.eval_images >= 1)
    asked = {"epochs": options.epochs, "batch": options.batch, "rate": options.rate, "seed": options.seed}
    options.recipe = replace(RECIPE, warmup_epochs=min(1.0, options.epochs / 2), **asked)
