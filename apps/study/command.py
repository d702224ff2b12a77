"""`rexnet-study`: the paper's claims made reproducible."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rexnet_export.apps.shared.face import run_parsed
from rexnet_export.apps.shared.flags import CommandParser, add_version
from rexnet_export.apps.study import control_command as study_control
from rexnet_export.apps.study import table_command as study_table
from rexnet_export.apps.study.rank import command as study_rank
from rexnet_export.apps.study.search import command as study_search

PROGRAM = "rexnet-study"
DESCRIPTION = "Reproduce what the ReXNet paper says: its family table, its rank study, its channel search."
# The face of each, and the module whose `run` does the work.
STUDIES = {
    "table": (study_table, "run_table"),
    "rank": (study_rank, "rank.run_rank"),
    "control": (study_control, "run_control"),
    "search": (study_search, "search.run_search"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    return run_parsed(PROGRAM, parser, argv)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = CommandParser(prog=PROGRAM, description=DESCRIPTION)
    add_version(p)
    studies = p.add_subparsers(dest="study", required=True, metavar="STUDY")
    for name, (module, work) in STUDIES.items():
        study = studies.add_parser(name, help=module.HELP, description=module.HELP)
        module.add_options(study)
        study.set_defaults(work=f"rexnet_export.apps.study.{work}:run", program=f"{PROGRAM} {name}")
        study.add_argument("--quiet", action="store_true", help="no progress, only results")
        study.add_argument("--debug", action="store_true", help="show tracebacks")
    return p


if __name__ == "__main__":
    sys.exit(main())
