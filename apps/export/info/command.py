"""`rexnet-export info`: what a checkpoint, an artifact, a bundle or an export folder is."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from rexnet_export.apps.shared.face import run_parsed
from rexnet_export.apps.shared.flags import CommandParser

INFO = "info"
PROGRAM = f"rexnet-export {INFO}"
DESCRIPTION = """Say what a file is: network, classes, preprocessing and who stated it, what it was made from, size, and
for an artifact the share of its arithmetic that is INT8, counted from the file. FILE is a checkpoint as --checkpoint
takes it, an artifact, a folder that rexnet-export wrote, or a bundle of rexnet-bench. Nothing is executed or proven:
`rexnet-export verify` does that. An artifact of a folder that is not what was written is one line of error and
makes the exit code 12; the others are described."""


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    return run_parsed(PROGRAM, parser, argv)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = CommandParser(prog=PROGRAM, description=DESCRIPTION)
    p.add_argument("file", metavar="FILE", help="a checkpoint, an artifact, a bundle, or an export folder")
    p.add_argument("--json", action="store_true", help="print it as JSON")
    p.add_argument("--quiet", action="store_true", help="no progress")
    p.add_argument("--debug", action="store_true", help="show tracebacks")
    p.set_defaults(work="rexnet_export.apps.export.info.run_info:run")
    return p
