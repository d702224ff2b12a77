"""`rexnet-bench bundle`: an export folder becomes one file that runs on any device."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_options(p: argparse.ArgumentParser) -> None:
    """The options of `bundle`."""
    p.add_argument("folder", type=Path, metavar="DIR", help="what rexnet-export wrote")
    p.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the bundle, a .zip")
    add_content_options(p, images=500)


def add_content_options(p: argparse.ArgumentParser, images: int) -> None:
    """What goes into a bundle of an export."""
    p.add_argument(
        "--baseline", type=Path, metavar="DIR", help="an export whose files of the same names are timed beside"
    )
    p.add_argument("--eval-data", type=Path, metavar="DIR", help="images, one sub-folder per class (default: bundled)")
    p.add_argument("--eval-labels", type=Path, metavar="FILE", help="labels of images that lie in one folder")
    p.add_argument("--images", type=int, default=images, metavar="N", help=f"how many of them (default: {images})")
    p.add_argument("--seed", type=int, default=0, metavar="N", help="chooses the images (default: 0)")
