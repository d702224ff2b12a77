"""`rexnet-export verify`: prove finished artifacts again, alone and against each other."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rexnet_export.apps.shared.flags import CommandParser
from rexnet_export.apps.shared.terminal import run_parsed

PROGRAM = "rexnet-export verify"
DESCRIPTION = """Prove finished artifacts again. Every file is opened in a process of its own, compared with the
fingerprints, golden logits and quantization table it was written with, executed on the same images as the others, and
compared with them tensor by tensor. A folder stands for the artifacts its report names, and every file of its manifest
is compared first. A file alone is shown to be consistent with itself, no more, unless --expect vouches for it. Exit
code 12 means that a file is not what was written."""


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
    p.add_argument("--eval-images", type=int, metavar="N", help="how many of them (default: all)")
    p.add_argument(
        "--trace-images", type=int, default=4, metavar="N", help="how many to compare every tensor on (default: 4)"
    )
    p.add_argument(
        "--expect",
        metavar="SHA256",
        help="what the one file has to be, or the manifest.json of the one folder: vouches where nothing else does",
    )
    p.add_argument("--seed", type=int, default=0, metavar="N", help="chooses the images (default: 0)")
    p.add_argument("--json", action="store_true", help="print what was found as JSON instead of tables")
    p.add_argument("--quiet", action="store_true", help="no progress, no tables")
    p.add_argument("--debug", action="store_true", help="show tracebacks")
    p.set_defaults(work="rexnet_export.apps.export.run_verify:verify")
    return p
