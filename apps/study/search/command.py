"""`rexnet-study search`: which channels should a network of a given cost have, and are they on a straight line?"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from rexnet_export.apps.train.recipe import Augmentation, Recipe, check
from rexnet_export.pipeline.core.errors import UsageError

HELP = "train many channel configurations of equal cost briefly, and compare the best with the rest"
OUTPUT = Path("rexnet-study-out/search")
RECIPE = Recipe(epochs=6, batch=32, rate=0.1, average_decay=0.9, augmentation=Augmentation(crop_area=0.7, erase=0.0))


def add_options(p: argparse.ArgumentParser) -> None:
    """The command line."""
    p.add_argument("--blocks", type=int, default=5, help="inverted bottlenecks (default 5)")
    p.add_argument("--parameters", type=int, default=120_000, help="limit (default 120000)")
    p.add_argument("--macs", type=int, default=6_000_000, help="limit for one image (default 6000000)")
    p.add_argument("--image-size", type=int, default=16, metavar="PX", help="(default 16)")
    p.add_argument("--configurations", type=int, default=24, help="how many to try (default 24)")
    p.add_argument("--repeats", type=int, default=1, help="trainings of each, averaged (default 1)")
    p.add_argument("--data", type=Path, metavar="DIR", help="training images (default: the bundled sample)")
    p.add_argument("--eval-data", type=Path, metavar="DIR", help="evaluation images (default: the bundled sample)")
    p.add_argument("--images", type=int, metavar="N", help="training images used (default: all)")
    p.add_argument("--eval-images", type=int, default=2000, metavar="N", help="evaluation images used (default 2000)")
    p.add_argument("--epochs", type=int, default=RECIPE.epochs, help=f"(default {RECIPE.epochs})")
    p.add_argument("--batch", type=int, default=RECIPE.batch, help=f"(default {RECIPE.batch})")
    p.add_argument("--rate", type=float, default=RECIPE.rate, help=f"peak learning rate (default {RECIPE.rate})")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--jobs", type=int, help="processes on this machine (default: its cores)")
    p.add_argument("--ray", metavar="ADDRESS", help="run on a Ray cluster: host:port, ray://host:port, auto or local")
    p.add_argument("--output", type=Path, default=OUTPUT, metavar="DIR", help=f"(default {OUTPUT})")
    p.add_argument("--resume", action="store_true", help="go on with the killed search in the output folder")
    p.set_defaults(settle=_settle)


def _settle(options: argparse.Namespace) -> None:
    if options.jobs is not None:
        check("jobs", options.jobs, "at least 1", allowed=options.jobs >= 1)
        if options.ray is not None:
            raise UsageError(f"--jobs {options.jobs} is of this machine: leave it out, or leave out --ray")
    for name in ("images", "eval_images"):
        if (count := getattr(options, name)) is not None:
            check(name.replace("_", "-"), count, "at least 1", allowed=count >= 1)
    asked = {name: getattr(options, name) for name in ("epochs", "batch", "rate", "seed")}
    options.recipe = replace(RECIPE, warmup_epochs=min(1.0, options.epochs / 2), **asked)
