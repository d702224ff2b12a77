"""`rexnet-gate`: fail a build that lost accuracy, and say so when there is too little evidence to tell."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rexnet_export.apps.gate import latency_command
from rexnet_export.apps.gate.outputs.flags import add_outputs
from rexnet_export.apps.shared.face import run_parsed
from rexnet_export.apps.shared.flags import CommandParser, add_version
from rexnet_export.pipeline.accuracy.margin import MARGIN

PROGRAM = "rexnet-gate"
LATENCY = "latency"
BASELINES = Path("baselines")
HTML = "--html"
DESCRIPTION = """Gate an export: image by image against a baseline, with exact tests. PASS means shown to be less than
the margin worse, FAIL shown to be worse, INCONCLUSIVE that these images cannot tell."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    if given[:1] == [LATENCY]:
        return latency_command.main(given[1:])
    return run_parsed(PROGRAM, parser, given)


def parser() -> argparse.ArgumentParser:
    """The command line: one parser for each subcommand."""
    p = CommandParser(prog=PROGRAM, description=DESCRIPTION)
    add_version(p)
    commands = p.add_subparsers(required=True, metavar="COMMAND")
    check = commands.add_parser("check", help="compare an export with its baseline", description=DESCRIPTION)
    _add_check(check)
    plan = commands.add_parser("plan", help="say what a number of images can decide")
    plan.add_argument("--images", type=int, required=True, metavar="N", help="labelled images there are")
    plan.add_argument(
        "--discordance",
        type=float,
        required=True,
        metavar="P",
        help="percent of images that exactly one of both has right; `check` prints it",
    )
    plan.add_argument("--margin", type=float, default=MARGIN, metavar="M", help=f"points (default: {MARGIN})")
    plan.set_defaults(work="rexnet_export.apps.gate.run_update:plan")
    update = commands.add_parser("update", help="accept an export as the new baseline")
    _add_update(update)
    commands.add_parser(LATENCY, help="compare the speed of two artifacts", add_help=False)
    for command in (check, plan, update):
        command.add_argument("--json", action="store_true", help="print the result as JSON instead of a table")
        command.add_argument("--quiet", action="store_true", help="print no table")
        command.add_argument("--debug", action="store_true", help="show tracebacks")
    return p


def _add_check(p: argparse.ArgumentParser) -> None:
    p.add_argument("candidate", type=Path, metavar="CANDIDATE", help="folder that rexnet-export wrote")
    p.add_argument(
        "--baseline",
        type=Path,
        metavar="BASELINE",
        help=f"another such folder, a baseline file, or a folder of them (default: {BASELINES}, unless "
        "--float-baseline is given)",
    )
    _also(p, "--baselines", "baseline")
    p.add_argument(
        "--float-baseline", action="store_true", help="compare every artifact with the candidate's own float network"
    )
    p.add_argument("--target", action="append", default=[], metavar="NAME", help="gate only this artifact; repeatable")
    p.add_argument(
        "--margin", type=float, default=MARGIN, metavar="M", help=f"largest drop, in points (default: {MARGIN})"
    )
    p.add_argument(
        "--float-margin",
        type=float,
        metavar="M",
        help="the same for INT8 against float: chain, float baseline and anchor (default: --margin)",
    )
    p.add_argument(
        "--tolerance", type=float, metavar="T", help="drop up to which a real one is no failure (default: half of M)"
    )
    p.add_argument("--ratio", type=float, metavar="R", help="also ask for this share of the baseline's top-1, as 0.99")
    p.add_argument("--fail-alpha", type=float, default=0.05, metavar="A", help="error of failures by p (default: 0.05)")
    p.add_argument(
        "--on-inconclusive", choices=("fail", "warn"), default="fail", help="exit with 3 (default), or with 0"
    )
    p.add_argument(
        "--device",
        type=Path,
        action="append",
        default=[],
        metavar="RESULT",
        help="also compare a result of rexnet-bench run with the same artifact here; repeatable",
    )
    p.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="evaluation images of the export, for --html and --device (default: the bundled)",
    )
    add_outputs(p)
    p.set_defaults(work="rexnet_export.apps.gate.run_check:check")


def _also(p: argparse.ArgumentParser, flag: str, dest: str) -> None:
    """Understand what the flag of the same meaning is called in the other subcommand, without showing it."""
    p.add_argument(flag, dest=dest, type=Path, default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def _add_update(p: argparse.ArgumentParser) -> None:
    p.add_argument("candidate", type=Path, metavar="CANDIDATE", help="folder that rexnet-export wrote")
    p.add_argument("--reason", required=True, metavar="TEXT", help="why, in a sentence for whoever reads the history")
    p.add_argument("--baselines", type=Path, default=BASELINES, metavar="DIR", help=f"where (default: {BASELINES})")
    _also(p, "--baseline", "baselines")
    p.add_argument("--target", action="append", default=[], metavar="NAME", help="only this artifact; repeatable")
    p.add_argument("--release", action="store_true", help="move the anchors here too: this is what is released")
    p.add_argument("--accept-regression", action="store_true", help="allow a lower top-1 than the old baseline's")
    p.set_defaults(work="rexnet_export.apps.gate.run_update:update")


if __name__ == "__main__":
    sys.exit(main())
