"""`rexnet-gate latency`: is one artifact slower than another?"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rexnet_export.apps.gate.outputs.flags import add_outputs
from rexnet_export.apps.shared.face import run_parsed
from rexnet_export.apps.shared.flags import CommandParser

PROGRAM = "rexnet-gate latency"
DESCRIPTION = """Compare the speed of two artifacts, of one format or two. Both are loaded at once, each in a process of
its own on the same core, and timed in turns, block by block; the ratio of their block medians is judged with its 95 %
limits. What can be counted without noise (size, operators, float islands, INT8 share, planned memory) must not get
worse at all. Exit codes: 0 pass, 1 slower or worse, 2 usage, 3 inconclusive, 4 invalid measurement."""


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    return run_parsed(PROGRAM, parser, argv)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = CommandParser(prog=PROGRAM, description=DESCRIPTION)
    p.add_argument("base", type=Path, metavar="BASE", help="artifact, or folder that rexnet-export wrote")
    p.add_argument("candidate", type=Path, metavar="CAND", help="artifact or folder to compare with it")
    p.add_argument("--target", metavar="NAME", help="which artifact of a folder: tflite, ort, 'ort x86', ...")
    p.add_argument("--pairs", type=int, default=20, metavar="K", help="pairs of blocks (default: 20)")
    p.add_argument(
        "--margin", type=float, default=10.0, metavar="G", help="percent slower that is allowed (default: 10)"
    )
    p.add_argument("--threads", type=int, default=1, metavar="N", help="threads of an inference (default: 1)")
    p.add_argument("--seed", type=int, default=0, metavar="N", help="chooses the order of blocks (default: 0)")
    p.add_argument(
        "--on-inconclusive", choices=("fail", "warn"), default="fail", help="exit with 3 (default), or with 0"
    )
    p.add_argument("--json", action="store_true", help="print everything, raw times included, as JSON")
    p.add_argument("--quiet", action="store_true", help="no progress, no tables")
    p.add_argument("--debug", action="store_true", help="show tracebacks")
    add_outputs(p)
    p.set_defaults(work="rexnet_export.apps.gate.run_latency:compare")
    return p


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
