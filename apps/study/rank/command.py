"""`rexnet-study rank`: the rank study on random networks, or of trained networks on real images."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rexnet_export.apps.study.rank import trained_command as study_trained
from rexnet_export.pipeline.core.errors import UsageError

HELP = "rank of the features of random layers (the paper's Figure 1), or of trained networks on real images"
OUTPUT = Path("rexnet-study-out/rank.md")
PROTOCOL = {
    "kinds": "layers: conv1x1, conv3x3, bottleneck-conv, bottleneck-depthwise",
    "nonlinearities": "linear, relu, relu6, leaky-relu, elu, softplus, hard-swish, silu",
    "ratios": "d_in / d_out, above 0 and at most 1",
    "networks": "random networks per point (default 1000)",
    "seed": "",
    "inputs": "uniform (in [0, 1], the default), normal or signed-uniform (in [-1, 1])",
    "order": "f (BatchNorm as an untrained network evaluates it, the identity; the default), f-bn or bn-f",
    "tolerance": "singular values count above this share of the largest (default: float32's, max(d_out, N) 2^-23)",
    "widths": "least and most d_out (default 60 160)",
    "expansion": "least and most hidden channels of a bottleneck over d_in (default 0 5, our reading of the figure)",
    "columns": "N over d_out (default 3)",
    "pixels": "side of the maps that N is made of (default 1)",
}


def add_options(p: argparse.ArgumentParser) -> None:
    """The command line."""
    several: dict[str, Any] = {"nargs": "+"}
    pair: dict[str, Any] = {"nargs": 2}
    shapes: dict[str, dict[str, Any]] = {
        "kinds": several,
        "nonlinearities": several,
        "ratios": {"nargs": "+", "type": float},
        "widths": {**pair, "type": int},
        "expansion": {**pair, "type": float},
        "tolerance": {"type": float},
        "columns": {"type": float},
        "networks": {"type": int},
        "seed": {"type": int},
        "pixels": {"type": int},
    }
    for name, text in PROTOCOL.items():
        p.add_argument(f"--{name}", help=text, **shapes.get(name, {}))
    p.add_argument("--sensitivity", type=int, metavar="N", help="judge other protocols too, on N networks per point")
    study_trained.add_options(p)
    text = f"page (default {OUTPUT}, of trained networks {study_trained.OUTPUT}); .svg and .csv beside"
    p.add_argument("--write", type=Path, metavar="FILE", help=text)
    p.set_defaults(settle=_settle)


def _settle(options: argparse.Namespace) -> None:
    if options.checkpoint:
        options.work = "rexnet_export.apps.study.rank.run_trained:run"
        study_trained.settle(options)
        return
    study_trained.refuse(options)
    if options.sensitivity is not None and options.sensitivity < 1:
        raise UsageError(f"--sensitivity {options.sensitivity}: must be at least 1")
