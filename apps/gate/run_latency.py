"""What `rexnet-gate latency` does: time two files in turns, decide, and write what was asked for."""

from __future__ import annotations

import argparse

from rexnet_export.apps.gate.latency.gate import LatencyGate, Request, run
from rexnet_export.apps.gate.latency.latency_json import latency_json
from rexnet_export.apps.gate.latency.sheet import sheet
from rexnet_export.apps.gate.latency.terminal_tables import tables
from rexnet_export.apps.gate.latency.words import result_words
from rexnet_export.apps.gate.latency_command import PROGRAM
from rexnet_export.apps.gate.outputs.outputs import planned
from rexnet_export.apps.gate.verdict_line import print_verdict
from rexnet_export.apps.shared.terminal import Terminal
from rexnet_export.pipeline.artifact.export_folder import artifact_at
from rexnet_export.pipeline.core.errors import GateFailed, Inconclusive, InvalidMeasurement
from rexnet_export.targets import SUFFIXES
from rexnet_export.targets.isolation.isolated_file import IsolatedFile


def compare(arguments: argparse.Namespace, terminal: Terminal) -> None:
    """Time both files; what is no pass is raised, with its exit code."""
    outputs = planned(PROGRAM, arguments)
    with outputs.failures(terminal):
        found = _compared(arguments, terminal)

    outputs.write(sheet(found, arguments.on_inconclusive), terminal)
    if arguments.json:
        terminal.json(latency_json(found).to_json())
    elif not arguments.quiet:
        terminal.out.print(tables(found))
        print_verdict(result_words(found, arguments.on_inconclusive), terminal)
    _raise_verdict(found, arguments)


def _compared(arguments: argparse.Namespace, terminal: Terminal) -> LatencyGate:
    base, candidate = (artifact_at(path, arguments.target, SUFFIXES) for path in (arguments.base, arguments.candidate))
    request = Request(
        base=base,
        candidate=candidate,
        pairs=arguments.pairs,
        margin=arguments.margin,
        threads=arguments.threads,
        seed=arguments.seed,
    )
    return run(request, lambda path, threads: IsolatedFile(path, threads=threads), terminal)


def _raise_verdict(found: LatencyGate, arguments: argparse.Namespace) -> None:
    """The exit code that goes with what was found, and one line that says why."""
    line = result_words(found, arguments.on_inconclusive).line
    match found.verdict:
        case "FAIL":
            raise GateFailed(line)
        case "INVALID":
            raise InvalidMeasurement(line)
        case "INCONCLUSIVE" if arguments.on_inconclusive == "fail":
            raise Inconclusive(line)
