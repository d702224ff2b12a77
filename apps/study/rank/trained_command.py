"""`rexnet-study rank --checkpoint`: what trained networks' features use of their channels, on real images."""

from __future__ import annotations

import argparse
from pathlib import Path

from rexnet_export.apps.train.recipe import check
from rexnet_export.pipeline.core.errors import UsageError

OF_RANDOM = (
    *("kinds", "nonlinearities", "ratios", "networks", "inputs", "order"),
    *("widths", "expansion", "columns", "pixels", "sensitivity"),
)
OF_TRAINED = ("data", "images")
OUTPUT = Path("rexnet-study-out/rank-trained.md")
IMAGES = 512


def add_options(p: argparse.ArgumentParser) -> None:
    """The part of the command line that is about trained networks."""
    p.add_argument("--checkpoint", nargs="+", metavar="FILE", help="trained networks instead of random ones")
    p.add_argument("--data", type=Path, metavar="DIR", help="images for --checkpoint (default: the bundled sample)")
    p.add_argument("--images", type=int, metavar="N", help=f"how many of them (default {IMAGES})")


def settle(options: argparse.Namespace) -> None:
    """Refuse what trained networks do not know, or what no study of them could do."""
    for name in OF_RANDOM:
        if getattr(options, name) is not None:
            raise UsageError(f"--{name} is of random networks: leave it out, or leave out --checkpoint")
    if options.images is not None:
        check("images", options.images, "at least 1", allowed=options.images >= 1)
    if options.seed is not None:
        check("seed", options.seed, "at least 0", allowed=options.seed >= 0)
    if options.tolerance is not None:
        check("tolerance", options.tolerance, "from 1e-06 to below 1", allowed=1e-6 <= options.tolerance < 1)


def refuse(options: argparse.Namespace) -> None:
    """Say which options need a checkpoint."""
    for name in OF_TRAINED:
        if getattr(options, name) is not None:
            raise UsageError(
                f"--{name} goes with --checkpoint, which looks at a trained network: add it or leave it out"
            )
