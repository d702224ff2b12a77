"""`rexnet-export sweep`: every combination of checkpoints, sizes, efforts, precisions and targets, side by side."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rexnet_export.apps.export.sweep.plan import read_plan
from rexnet_export.apps.shared.face import run_parsed
from rexnet_export.apps.shared.flags import CommandParser
from rexnet_export.pipeline.core.errors import UsageError

SWEEP, PICK = "sweep", "pick"
PROGRAM = f"rexnet-export {SWEEP}"
OUTPUT = Path("rexnet-sweep-out")
DESCRIPTION = """Export every combination of checkpoints, image sizes, efforts, precisions and targets that a TOML file
names, each in a process of its own, and put the files side by side: accuracy with limits against latency and size. A
killed sweep goes on with --resume; a trial that fails says why, and the rest goes on."""
PICK_DESCRIPTION = """Name the fastest file of a finished sweep that is shown to lose less than --max-drop against the
sweep's best float network, corrected for there being several candidates. Exit code 1: every candidate loses more;
3: the images cannot tell."""


def main(argv: Sequence[str]) -> int:
    """Run the subcommand; returns the exit code."""
    if list(argv[:1]) == [PICK]:
        return run_parsed(f"{PROGRAM} {PICK}", pick_parser, argv[1:])
    return run_parsed(PROGRAM, parser, argv, lambda _: "what is done is kept: go on with --resume")


def parser() -> argparse.ArgumentParser:
    """The command line of a sweep."""
    p = CommandParser(
        prog=PROGRAM,
        description=DESCRIPTION,
        epilog=f"`{PROGRAM} {PICK} SWEEP --target NAME --max-drop POINTS` names the file to ship.",
        words=(PICK,),
    )
    p.add_argument("file", type=Path, metavar="SWEEP.toml", help="what to sweep over")
    p.add_argument("--output", type=Path, default=OUTPUT, metavar="DIR", help=f"(default: {OUTPUT})")
    p.add_argument("--jobs", type=int, metavar="N", help="processes here (default: as cores and memory allow)")
    p.add_argument("--ray", metavar="ADDRESS", help="run on a Ray cluster: host:port, ray://host:port, auto or local")
    p.add_argument("--resume", action="store_true", help="go on with the killed sweep in the output folder")
    p.add_argument("--json", action="store_true", help="print sweep.json instead of the table")
    _add_common(p)
    p.set_defaults(settle=_settle, work="rexnet_export.apps.export.sweep.run_sweep:run")
    return p


def pick_parser() -> argparse.ArgumentParser:
    """The command line of a pick."""
    p = CommandParser(prog=f"{PROGRAM} {PICK}", description=PICK_DESCRIPTION)
    p.add_argument("sweep", type=Path, metavar="SWEEP", help="the folder of a finished sweep")
    p.add_argument("--target", required=True, metavar="NAME", help="such as tflite or `ort x86`")
    p.add_argument("--max-drop", type=float, default=0.5, metavar="POINTS", help="of top-1 (default: 0.5)")
    p.add_argument("--json", action="store_true", help="print the choice as JSON")
    _add_common(p)
    p.set_defaults(settle=_settle_pick, work="rexnet_export.apps.export.sweep.run_pick:run")
    return p


def _add_common(p: argparse.ArgumentParser) -> None:
    p.add_argument("--quiet", action="store_true", help="no progress, no notes")
    p.add_argument("--debug", action="store_true", help="show tracebacks")


def _settle(arguments: argparse.Namespace) -> None:
    if arguments.jobs is not None:
        if arguments.jobs < 1:
            raise UsageError(f"--jobs {arguments.jobs}: must be at least 1")
        if arguments.ray is not None:
            raise UsageError(f"--jobs {arguments.jobs} is of this machine: leave it out, or leave out --ray")
    arguments.trials = read_plan(arguments.file, arguments.output)


def _settle_pick(arguments: argparse.Namespace) -> None:
    if not 0 < arguments.max_drop < 100:
        raise UsageError(f"--max-drop {arguments.max_drop:g}: must be above 0 and below 100 percentage points")
