"""`rexnet-export predict`: what a finished file answers to photos."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rexnet_export.apps.shared.face import run_parsed
from rexnet_export.apps.shared.flags import CommandParser

PREDICT = "predict"
PROGRAM = f"rexnet-export {PREDICT}"
DESCRIPTION = """Ask a finished file about photos. Each is prepared as the file's metadata says, and its best classes
are printed with their probabilities. A folder stands for all photos in it. A photo that cannot be read is
one line of error and makes the exit code 11; all others are answered. A file that the manifest beside it does not vouch
for is refused."""


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    return run_parsed(PROGRAM, parser, argv)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = CommandParser(prog=PROGRAM, description=DESCRIPTION)
    p.add_argument("file", type=Path, metavar="FILE", help="an artifact, or a folder that rexnet-export wrote")
    p.add_argument("photos", nargs="+", type=Path, metavar="PHOTO|DIR", help="photos, or folders of them")
    p.add_argument("--target", metavar="NAME", help="which artifact of a folder, such as tflite or `ort x86`")
    p.add_argument("--top", type=int, default=5, metavar="N", help="how many classes to show (default: 5)")
    p.add_argument("--json", action="store_true", help="print the answers as JSON")
    p.add_argument("--quiet", action="store_true", help="no progress")
    p.add_argument("--debug", action="store_true", help="show tracebacks")
    p.set_defaults(work="rexnet_export.apps.export.run_predict:run")
    return p
