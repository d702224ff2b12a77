"""`rexnet-gate latency`: is one artifact slower than another?"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rexnet_export.apps.gate.outputs.outputs import add_outputs, planned
from rexnet_export.apps.shared.terminal import Terminal, run_parsed
from rexnet_export.pipeline.core.errors import GateFailed, Inconclusive, InvalidMeasurement

if TYPE_CHECKING:
    from rexnet_export.apps.gate.latency.gate import LatencyGate

PROGRAM = "rexnet-gate latency"
DESCRIPTION = """Compare the speed of two artifacts, of one format or two. Both are loaded at once, each in a process of
its own on the same core, and timed in turns, block by block; the ratio of their block medians is judged with its 95 %
limits. What can be counted without noise (size, operators, float islands, INT8 share, planned memory) must not get
worse at all. Exit codes: 0 pass, 1 slower or worse, 2 usage, 3 inconclusive, 4 invalid measurement."""


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    return run_parsed(PROGRAM, parser, argv, _compare)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(prog=PROGRAM, description=DESCRIPTION)
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
    return p


def _compare(arguments: argparse.Namespace, terminal: Terminal) -> None:
    outputs = planned(PROGRAM, arguments)
    with outputs.failures(terminal):
        found = _compared(arguments, terminal)
    from rexnet_export.apps.gate.latency.latency_json import latency_json  # noqa: PLC0415
    from rexnet_export.apps.gate.latency.sheet import sheet  # noqa: PLC0415
    from rexnet_export.apps.gate.latency.terminal_tables import tables  # noqa: PLC0415

    outputs.write(sheet(found, arguments.on_inconclusive), terminal)
    if arguments.json:
        terminal.json(latency_json(found).to_json())
    elif not arguments.quiet:
        terminal.out.print(tables(found))
    _raise_verdict(found, arguments, terminal)


def _compared(arguments: argparse.Namespace, terminal: Terminal) -> LatencyGate:
    # Imported late: torch alone takes seconds, and --help and a wrong flag should not wait for it.
    from rexnet_export.apps.gate.latency.gate import Request, run  # noqa: PLC0415
    from rexnet_export.pipeline.artifact.export_folder import artifact_at  # noqa: PLC0415
    from rexnet_export.targets import TARGETS  # noqa: PLC0415
    from rexnet_export.targets.isolation.isolated_file import IsolatedFile  # noqa: PLC0415

    suffixes = tuple(suffix for target in TARGETS.values() for suffix in target.suffixes)
    base, candidate = (artifact_at(path, arguments.target, suffixes) for path in (arguments.base, arguments.candidate))
    request = Request(
        base=base,
        candidate=candidate,
        pairs=arguments.pairs,
        margin=arguments.margin,
        threads=arguments.threads,
        seed=arguments.seed,
    )
    return run(request, lambda path, threads: IsolatedFile(path, threads=threads), terminal)


def _raise_verdict(found: LatencyGate, arguments: argparse.Namespace, terminal: Terminal) -> None:
    """The exit code that goes with what was found, and one line that says why."""
    reason = found.decision.reason
    match found.verdict:
        case "FAIL":
            raise GateFailed("; ".join(found.failures))
        case "INVALID":
            raise InvalidMeasurement(f"{reason}; run again on a quiet machine")
        case "INCONCLUSIVE" if arguments.on_inconclusive == "fail":
            raise Inconclusive(f"{reason}; {found.advice}")
        case "INCONCLUSIVE":
            terminal.note(f"warning: inconclusive: {reason}; {found.advice}")
        case "PASS":
            pass


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
