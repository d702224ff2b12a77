"""What `rexnet-gate check` does: read both sides, ask, decide, and write what was asked for."""

from __future__ import annotations

import argparse
from pathlib import Path

from rexnet_export.apps.gate.accuracy import questions
from rexnet_export.apps.gate.accuracy.decision import Policy
from rexnet_export.apps.gate.accuracy.device_questions import device_question
from rexnet_export.apps.gate.accuracy.evidence import Evidence, read_evidence
from rexnet_export.apps.gate.accuracy.result import GateResult
from rexnet_export.apps.gate.accuracy.sheet import sheet
from rexnet_export.apps.gate.accuracy.terminal_tables import table, told
from rexnet_export.apps.gate.accuracy.words import result_words
from rexnet_export.apps.gate.baseline.baseline import Baseline, read_baselines
from rexnet_export.apps.gate.command import BASELINES, HTML, PROGRAM
from rexnet_export.apps.gate.outputs.outputs import planned
from rexnet_export.apps.gate.verdict_line import print_verdict
from rexnet_export.apps.shared.html.flips import SHOWN
from rexnet_export.apps.shared.terminal import Terminal
from rexnet_export.pipeline.core.errors import BaselineError, DataError, GateFailed, Inconclusive, UsageError
from rexnet_export.pipeline.core.files import MANIFEST_FILE
from rexnet_export.pipeline.data.sources import ImageSource, bundled, open_source
from rexnet_export.pipeline.data.thumbnails import thumbnails


def check(arguments: argparse.Namespace, terminal: Terminal) -> None:
    """Compare an export with its baseline; what is no pass is raised, with its exit code."""
    outputs = planned(f"{PROGRAM} check", arguments)
    with outputs.failures(terminal):
        result = _checked(arguments)

    pictures = _pictures(result, arguments.images, terminal) if HTML in outputs.files else {}
    outputs.write(sheet(result, pictures), terminal)
    if arguments.json:
        terminal.json(result.to_json())
    elif not arguments.quiet:
        terminal.out.print(table(result))
        print_verdict(result_words(result), terminal)
    _raise_verdict(result)


def _checked(arguments: argparse.Namespace) -> GateResult:
    policy, float_policy = _policies(arguments)

    candidate = read_evidence(existing(arguments.candidate))
    baseline = _baseline(arguments, candidate)
    # Who names the baseline of one artifact asks about that one.
    named = list(baseline) if isinstance(baseline, dict) and _is_file(arguments.baseline) else []
    devices = []
    if arguments.device:
        source = _source(arguments.images, labelled=True)
        devices = [device_question(candidate, folder, source) for folder in arguments.device]
    return questions.check(
        candidate,
        baseline,
        policy,
        float_policy=float_policy,
        float_baseline=arguments.float_baseline,
        targets=arguments.target or named,
        devices=devices,
    )


def _pictures(result: GateResult, folder: Path | None, terminal: Terminal) -> dict[str, bytes]:
    """Pictures of the flipped images a page shows; without a folder those of the bundled images, where it is they."""
    wanted = {flip.id for check in told(result).values() for flip in check.flips[:SHOWN]}
    try:
        source = _source(folder, labelled=False)
        if folder is None and source.name != result.images["name"]:
            return {}
        if strangers := sorted(wanted - set(source.ids)):
            terminal.note(f"no pictures: --images {folder} has no {strangers[0]}; name what --eval-data named")
            return {}
        return thumbnails(source, wanted)
    except DataError as error:  # a verdict stands without pictures
        terminal.note(f"no pictures: {error}")
        return {}


def _source(folder: Path | None, *, labelled: bool) -> ImageSource:
    """The bundled evaluation images, or a folder's."""
    return bundled("evaluation") if folder is None else open_source(folder, labelled=labelled, role="evaluation")


def _policies(arguments: argparse.Namespace) -> tuple[Policy, Policy]:
    def policy(margin: float) -> Policy:
        tolerance = margin / 2 if arguments.tolerance is None else arguments.tolerance
        return Policy(
            margin=margin / 100,
            tolerance=tolerance / 100,
            fail_alpha=arguments.fail_alpha,
            ratio=arguments.ratio,
            on_inconclusive=arguments.on_inconclusive,
        )

    float_margin = arguments.margin if arguments.float_margin is None else arguments.float_margin
    return policy(arguments.margin), policy(float_margin)


def _baseline(arguments: argparse.Namespace, candidate: Evidence) -> Evidence | dict[str, Baseline] | None:
    path: Path | None = arguments.baseline
    if path is None and arguments.float_baseline:
        return None
    path = path or BASELINES
    if not path.exists():
        there = "" if path == BASELINES else f" --baselines {path}"
        command = f"{PROGRAM} update {arguments.candidate}{there} --reason TEXT"
        raise BaselineError(f"baseline {path} does not exist; write one with: {command}")
    return read_evidence(path) if (path / MANIFEST_FILE).exists() else read_baselines(path, candidate.model)


def _is_file(path: Path | None) -> bool:
    return path is not None and path.is_file()


def existing(path: Path) -> Path:
    """The same; `UsageError` where it is no folder."""
    if not path.is_dir():
        raise UsageError(f"{path} is no folder; name one that rexnet-export wrote")
    return path


def _raise_verdict(result: GateResult) -> None:
    """One line that says what the table comes to, and the exit code that goes with it."""
    words = result_words(result)
    match result.overall:
        case "fail":
            raise GateFailed(words.line)
        case "not_compared":
            raise BaselineError(words.line)
        case "inconclusive" if result.exit_code:
            raise Inconclusive(words.line)
