"""`rexnet-bench gpu`: throughput, latency and accuracy of the desktop network, form by form."""

from __future__ import annotations

import argparse
from pathlib import Path

DEFAULT_IMAGES = 1000


def add_gpu_options(p: argparse.ArgumentParser) -> None:
    """The options of `gpu`."""
    p.add_argument(
        "model", nargs="?", metavar="FILE_OR_DIR",
        help="a checkpoint, or an export's folder, which brings its INT8 table (default: the bundled network)",
    )  # fmt: skip
    p.add_argument("--batches", metavar="N,N,...", help="(default: 1,8,32,128,256,512,1024; on a CPU 1,8)")
    p.add_argument("--forms", metavar="NAME,NAME,...", help="which forms (default: all; docs/gpu.md has them)")
    p.add_argument("--seconds", type=float, default=1.0, metavar="S", help="of timing for each cell (default: 1)")
    p.add_argument("--eval-data", type=Path, metavar="DIR", help="images, one sub-folder per class (default: bundled)")
    p.add_argument("--eval-labels", type=Path, metavar="FILE", help="labels of images that lie in one folder")
    p.add_argument(
        "--images", type=int, default=DEFAULT_IMAGES, metavar="N", help=f"how many of them (default: {DEFAULT_IMAGES})"
    )
    p.add_argument("--seed", type=int, default=0, metavar="N", help="chooses the images (default: 0)")
    p.add_argument("--json", action="store_true", help="print the result as JSON instead of tables")
