"""`rexnet-bench run`, `devices` and `compare`: bundles on devices, and what came of it."""

from __future__ import annotations

import argparse
from pathlib import Path

from rexnet_export.apps.bench.apple.command import add_apple_options
from rexnet_export.apps.bench.browser.command import add_address_options

NAMES = "local, ssh://user@host[:port], adb, adb:SERIAL, apple:IDENTIFIER or browser"
DEFAULT_OUTPUT = Path("rexnet-bench-out")


def add_run_options(p: argparse.ArgumentParser) -> None:
    """The options of `run`."""
    p.add_argument("bundle", type=Path, metavar="BUNDLE", help="what rexnet-bench bundle made")
    p.add_argument("--device", default="local", metavar="DEVICE", help=NAMES)
    p.add_argument("--python", metavar="PATH", help="the device's Python (default: this one, or python3 elsewhere)")
    p.add_argument("--ssh-config", type=Path, metavar="FILE", help="instead of ~/.ssh/config")
    p.add_argument("--output", type=Path, default=DEFAULT_OUTPUT, metavar="DIR", help="a new folder for the result")
    p.add_argument("--timeout", type=float, default=3600, metavar="S", help="seconds for the run (default: 3600)")
    p.add_argument("--artifact", metavar="NAME", help="which artifact (default: the first that the device can run)")
    p.add_argument(
        "--runtime",
        metavar="NAME",
        help="ai_edge_litert, tflite_runtime, onnxruntime or coremltools; in a browser litert.js or onnxruntime-web",
    )
    add_address_options(p)
    add_apple_options(p)
    p.add_argument("--threads", type=int, metavar="N", help="(default: 1, kept to one core)")
    p.add_argument("--images", type=int, metavar="N", help="how many images (default: all)")
    p.add_argument("--pairs", type=int, metavar="N", help="pairs of timed blocks (default: 20)")
    p.add_argument("--block-runs", type=int, metavar="N", help="inferences in a block (default: 40)")
    p.add_argument("--budget", type=float, metavar="S", help="seconds after which no new pair is begun (default: 180)")
    p.add_argument("--idle-wait", type=float, metavar="S", help="seconds to wait for a quiet device (default: 120)")
    p.add_argument("--sustained", type=float, metavar="MIN", help="minutes of load without a pause, at the end")
    p.add_argument("--emulator", metavar="TEXT", help="what emulates the device: its durations are then never valid")
    p.add_argument("--json", action="store_true", help="print the result as JSON instead of a table")


def add_device_options(p: argparse.ArgumentParser) -> None:
    """The options of `devices`."""
    p.add_argument("--json", action="store_true", help="print the list as JSON")


def add_compare_options(p: argparse.ArgumentParser) -> None:
    """The options of `compare`."""
    p.add_argument("first", type=Path, metavar="A", help="a result's folder")
    p.add_argument("second", type=Path, metavar="B", help="another")
    p.add_argument("--json", action="store_true", help="print the comparison as JSON")
