"""`rexnet-export verify`: prove finished artifacts again, alone and against each other."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rexnet_export.apps.shared.face import run_parsed
from rexnet_export.apps.shared.flags import CommandParser
from rexnet_export.pipeline.core.errors import UsageError

PROGRAM = "rexnet-export verify"
DESCRIPTION = """Prove finished artifacts again. Every file is opened in a process of its own, compared with the
fingerprints, golden logits and quantization table it was written with, executed on the same images as the others, and
compared with them tensor by tensor. A folder stands for the artifacts its report names, and every file of its manifest
is compared first. A file alone is shown to be consistent with itself, no more, unless --expect vouches for it.
--rebuild makes a folder again and compares. Exit code 12 means that a file is not what was written."""


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    return run_parsed(PROGRAM, parser, argv)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = CommandParser(prog=PROGRAM, description=DESCRIPTION)
    p.add_argument("paths", nargs="+", type=Path, metavar="FILE|DIR", help="artifacts, or a folder of them")
    p.add_argument(
        "--eval-data",
        type=Path,
        metavar="DIR",
        help="folder of images, one sub-folder per class (default: the bundled images, for a model with their labels)",
    )
    p.add_argument("--eval-labels", type=Path, metavar="FILE", help="labels of images that lie in one folder")
    p.add_argument("--eval-images", type=int, metavar="N", help="how many of them (default: 500, where there are more)")
    p.add_argument(
        "--trace-images", type=int, default=4, metavar="N", help="how many to compare every tensor on (default: 4)"
    )
    p.add_argument(
        "--expect",
        metavar="SHA256",
        help="what the one file has to be, or the manifest.json of the one folder: vouches where nothing else does",
    )
    p.add_argument(
        "--rebuild",
        metavar="CHECKPOINT",
        help="make the one folder again from this checkpoint with the options in its manifest, and compare every file "
        "instead of proving the present ones",
    )
    moved = p.add_argument_group(
        "with --rebuild", "inputs that are not where they were; --eval-data and --eval-labels too"
    )
    moved.add_argument("--calibration-data", type=Path, metavar="DIR", help="(default: as recorded)")
    for flag in ("--labels", "--qparams"):
        moved.add_argument(flag, type=Path, metavar="FILE", help="(default: as recorded)")
    p.add_argument(
        "--trusted",
        type=Path,
        metavar="KEY",
        help="public key (PEM) that must have signed the one folder as it is; needs rexnet-export[sign]",
    )
    p.add_argument("--seed", type=int, default=0, metavar="N", help="chooses the images (default: 0)")
    p.add_argument("--json", action="store_true", help="print what was found as JSON instead of tables")
    p.add_argument("--quiet", action="store_true", help="no progress, no tables")
    p.add_argument("--debug", action="store_true", help="show tracebacks")
    p.set_defaults(settle=_settle, work="rexnet_export.apps.export.verify.run_verify:verify")
    return p


def _settle(arguments: argparse.Namespace) -> None:
    rebuilds = arguments.rebuild is not None
    for name in ("expect", "eval_images") if rebuilds else ("calibration_data", "labels", "qparams"):
        if (value := getattr(arguments, name)) is not None:
            flag = f"--{name.replace('_', '-')} {value}"
            raise UsageError(
                f"{flag}: --rebuild takes what is recorded and compares every file; leave one of the two out"
                if rebuilds
                else f"{flag}: it is for an export that is made again; name its checkpoint with --rebuild"
            )
    if rebuilds:  # an export needs much that a proof does not
        arguments.work = "rexnet_export.apps.export.verify.run_rebuild:run"
