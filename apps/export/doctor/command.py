"""`rexnet-export doctor`: which targets can be converted, executed and timed here, and what is missing."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from rexnet_export.apps.export.options import MEANT
from rexnet_export.apps.shared.face import run_parsed
from rexnet_export.apps.shared.flags import CommandParser
from rexnet_export.targets import TARGETS

DOCTOR = "doctor"
PROGRAM = f"rexnet-export {DOCTOR}"
DESCRIPTION = """Try every target on this machine: a small network is converted to it and executed, each target in a
process of its own. Optional parts that are not installed are named with the command that installs them. Exit code 0:
every target that was asked for works; 13: one cannot be converted or executed."""


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    return run_parsed(PROGRAM, parser, argv)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = CommandParser(prog=PROGRAM, description=DESCRIPTION, meant=MEANT)
    p.add_argument(
        "--target",
        action="append",
        choices=list(TARGETS),
        help="try only this one; repeatable (default: all that are installed)",
    )
    p.add_argument("--json", action="store_true", help="print what was found as JSON")
    p.add_argument("--quiet", action="store_true", help="no progress, no tables")
    p.add_argument("--debug", action="store_true", help="show tracebacks")
    p.set_defaults(work="rexnet_export.apps.export.doctor.run_doctor:run")
    return p
