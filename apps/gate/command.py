"""`rexnet-gate`: fail a build that lost accuracy, and say so when there is too little evidence to tell."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rexnet_export.apps.gate.outputs.outputs import add_outputs, planned
from rexnet_export.apps.shared.terminal import Terminal, run_parsed
from rexnet_export.pipeline.core.errors import BaselineError, DataError, GateFailed, Inconclusive, UsageError
from rexnet_export.pipeline.proof.paired_statistics import MARGIN

if TYPE_CHECKING:
    from rexnet_export.apps.gate.accuracy.baseline import Baseline
    from rexnet_export.apps.gate.accuracy.decision import Policy
    from rexnet_export.apps.gate.accuracy.evidence import Evidence
    from rexnet_export.apps.gate.accuracy.result import GateResult
    from rexnet_export.pipeline.data.sources import ImageSource

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
        from rexnet_export.apps.gate import (  # noqa: PLC0415 - its timing needs nothing of what is here
            latency_command as gate_latency,
        )

        return gate_latency.main(given[1:])
    return run_parsed(PROGRAM, parser, given, _run)


def _run(arguments: argparse.Namespace, terminal: Terminal) -> None:
    command: Callable[[argparse.Namespace, Terminal], None] = arguments.command
    command(arguments, terminal)


def parser() -> argparse.ArgumentParser:
    """The command line: one parser for each subcommand."""
    p = argparse.ArgumentParser(prog=PROGRAM, description=DESCRIPTION)
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
    plan.set_defaults(command=_plan)
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
    p.set_defaults(command=_check)


def _add_update(p: argparse.ArgumentParser) -> None:
    p.add_argument("candidate", type=Path, metavar="CANDIDATE", help="folder that rexnet-export wrote")
    p.add_argument("--reason", required=True, metavar="TEXT", help="why, in a sentence for whoever reads the history")
    p.add_argument("--baselines", type=Path, default=BASELINES, metavar="DIR", help=f"where (default: {BASELINES})")
    p.add_argument("--target", action="append", default=[], metavar="NAME", help="only this artifact; repeatable")
    p.add_argument("--release", action="store_true", help="move the anchors here too: this is what is released")
    p.add_argument("--accept-regression", action="store_true", help="allow a lower top-1 than the old baseline's")
    p.set_defaults(command=_update)


def _check(arguments: argparse.Namespace, terminal: Terminal) -> None:
    outputs = planned(f"{PROGRAM} check", arguments)
    with outputs.failures(terminal):
        result = _checked(arguments)
    from rexnet_export.apps.gate.accuracy.sheet import sheet  # noqa: PLC0415
    from rexnet_export.apps.gate.accuracy.terminal_tables import table  # noqa: PLC0415

    pictures = _pictures(result, arguments.images, terminal) if HTML in outputs.files else {}
    outputs.write(sheet(result, pictures), terminal)
    if arguments.json:
        terminal.json(result.to_json())
    elif not arguments.quiet:
        terminal.out.print(table(result))
    _raise_verdict(result)


def _checked(arguments: argparse.Namespace) -> GateResult:
    # Imported late: torch alone takes seconds, and --help and a wrong flag should not wait for it.
    policy, float_policy = _policies(arguments)
    from rexnet_export.apps.gate.accuracy.device_questions import device_question  # noqa: PLC0415
    from rexnet_export.apps.gate.accuracy.evidence import read_evidence  # noqa: PLC0415
    from rexnet_export.apps.gate.accuracy.questions import check  # noqa: PLC0415

    candidate = read_evidence(_existing(arguments.candidate))
    baseline = _baseline(arguments, candidate)
    # Who names the baseline of one artifact asks about that one.
    named = list(baseline) if isinstance(baseline, dict) and _is_file(arguments.baseline) else []
    devices = []
    if arguments.device:
        source = _source(arguments.images, labelled=True)
        devices = [device_question(candidate, folder, source) for folder in arguments.device]
    return check(
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
    from rexnet_export.apps.gate.accuracy.terminal_tables import told  # noqa: PLC0415
    from rexnet_export.apps.shared.html.flips import SHOWN  # noqa: PLC0415
    from rexnet_export.pipeline.data.thumbnails import thumbnails  # noqa: PLC0415

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
    from rexnet_export.pipeline.data.sources import bundled, open_source  # noqa: PLC0415

    return bundled("evaluation") if folder is None else open_source(folder, labelled=labelled)


def _policies(arguments: argparse.Namespace) -> tuple[Policy, Policy]:
    from rexnet_export.apps.gate.accuracy.decision import Policy  # noqa: PLC0415

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
    from rexnet_export.apps.gate.accuracy.baseline import read_baselines  # noqa: PLC0415
    from rexnet_export.apps.gate.accuracy.evidence import read_evidence  # noqa: PLC0415
    from rexnet_export.pipeline.core.files import MANIFEST_FILE  # noqa: PLC0415

    path: Path | None = arguments.baseline
    if path is None and arguments.float_baseline:
        return None
    path = path or BASELINES
    if not path.exists():
        raise BaselineError(
            f"baseline {path} does not exist; write one with: {PROGRAM} update {arguments.candidate} --reason TEXT"
        )
    return read_evidence(path) if (path / MANIFEST_FILE).exists() else read_baselines(path, candidate.model)


def _is_file(path: Path | None) -> bool:
    return path is not None and path.is_file()


def _existing(path: Path) -> Path:
    if not path.is_dir():
        raise UsageError(f"{path} is no folder; name one that rexnet-export wrote")
    return path


def _raise_verdict(result: GateResult) -> None:
    """One line that says what the table comes to, and the exit code that goes with it."""
    said = [f"{check.target} {check.name}: {check.message}" for check in result.checks if check.outcome != "pass"]
    match result.overall:
        case "fail":
            failed = [f"{check.target} {check.name}: {check.message}" for check in result.checks if check.failed]
            raise GateFailed(f"FAIL, broken at {result.broken_stage}: {'; '.join(failed)}")
        case "not_compared":
            missing = [check.message for check in result.checks if check.outcome == "not_compared"]
            raise BaselineError("; ".join(dict.fromkeys(missing)) or f"{result.candidate} has nothing to compare")
        case "inconclusive" if result.exit_code:
            raise Inconclusive(f"INCONCLUSIVE: {'; '.join(said)}")


def _plan(arguments: argparse.Namespace, terminal: Terminal) -> None:
    from rexnet_export.apps.gate.accuracy.plan import plan  # noqa: PLC0415
    from rexnet_export.apps.gate.accuracy.terminal_tables import plan_table  # noqa: PLC0415
    from rexnet_export.pipeline.core.json import plain  # noqa: PLC0415

    found = plan(arguments.images, arguments.discordance / 100, arguments.margin / 100)
    if arguments.json:
        terminal.json(plain(found))
    elif not arguments.quiet:
        terminal.out.print(plan_table(found))


def _update(arguments: argparse.Namespace, terminal: Terminal) -> None:
    from rexnet_export.apps.gate.accuracy.baseline_update import Change, update  # noqa: PLC0415
    from rexnet_export.apps.gate.accuracy.evidence import read_evidence  # noqa: PLC0415
    from rexnet_export.apps.gate.accuracy.terminal_tables import update_table  # noqa: PLC0415
    from rexnet_export.pipeline.core.json import plain  # noqa: PLC0415

    change = Change(
        reason=arguments.reason,
        commit=_commit(),
        run=os.environ.get("GITHUB_RUN_ID"),
        release=arguments.release,
        accept_regression=arguments.accept_regression,
    )
    evidence = read_evidence(_existing(arguments.candidate))
    targets = tuple(arguments.target or evidence.targets)
    if strangers := [target for target in targets if target not in evidence.targets]:
        raise UsageError(f"--target {strangers[0]}: {evidence.source} has {', '.join(evidence.targets) or 'none'}")
    if not targets:
        raise DataError(f"{evidence.source} has no artifact that was executed; export again where one can be")
    written = update(evidence, arguments.baselines, targets, change)
    if arguments.json:
        terminal.json({"updated": plain(tuple(written))})
    elif not arguments.quiet:
        terminal.out.print(update_table(written))


def _commit() -> str | None:
    """The commit of the working directory, where it is in a repository."""
    try:
        found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)  # noqa: S607
    except OSError:
        return None
    return found.stdout.strip() or None


if __name__ == "__main__":
    sys.exit(main())
