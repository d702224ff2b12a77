"""`rexnet-bench serve`, and `run --device browser`: a bundle on the phone's browser."""

from __future__ import annotations

import argparse
from pathlib import Path

from rexnet_export.apps.bench.bundle.command import add_content_options

DEFAULT_IMAGES = 100


def add_serve_options(p: argparse.ArgumentParser) -> None:
    """The options of `serve`."""
    p.add_argument("folder", type=Path, metavar="DIR_OR_BUNDLE", help="what rexnet-export or rexnet-bench bundle wrote")
    add_address_options(p)
    p.add_argument(
        "--output", type=Path, default=Path("rexnet-bench-out"), metavar="DIR", help="where results go, a folder each"
    )
    add_content_options(p, images=DEFAULT_IMAGES)
    p.set_defaults(artifact=None, runtime=None, threads=None, pairs=None, block_runs=None, budget=None, idle_wait=None)


def add_address_options(p: argparse.ArgumentParser) -> None:
    """Where the page is served."""
    p.add_argument(
        "--host", default="127.0.0.1", metavar="IP", help="127.0.0.1: only this machine (default); 0.0.0.0: its network"
    )
    p.add_argument("--port", type=int, default=0, metavar="N", help="(default: a free one)")
