"""The closing table of an export."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from rich.console import Group

from rexnet_export.apps.shared.terminal_table import Column, FittedTable, Paragraph
from rexnet_export.apps.shared.text import int8_share, shown
from rexnet_export.pipeline.core.records import Measurement, NotMeasured
from rexnet_export.pipeline.proof.results import FileResult
from rexnet_export.pipeline.report.report import Report

COLUMNS = ("target", "file", "MB", "top-1", "drop", "agree", "p50 ms", "gain", "INT8")
LESS = ("gain", "MB", "p50 ms")  # go first where a terminal has no room


def table(report: Report) -> Group:
    """One row per file; below it who ran each, and why a dash is a dash."""
    reference = report.reference
    said = "" if isinstance(reference.top1, NotMeasured) else f", top-1 {reference.top1:.2%}"
    title = f"{report.card.name}: float reference on {reference.n:,} images{said}"
    columns = [
        Column(
            title=name, left=name == "target", name=name == "file", spare=LESS.index(name) + 1 if name in LESS else 0
        )
        for name in COLUMNS
    ]
    below = [
        *explained(report),
        *(f"{executor} ran {', '.join(names)}" for executor, names in executors(report).items()),
    ]
    grid = FittedTable(title, columns, list(rows(report)))
    return Group(grid, *map(Paragraph, [*below, *left_in_float(report), *reasons(report)]))


def files(report: Report) -> Iterator[tuple[str, FileResult]]:
    """Every artifact under its target's name, each followed by its presets as `target preset`."""
    for name, result in report.targets.items():
        yield name, result.artifact
        yield from ((f"{name} {preset}", file) for preset, file in result.presets.items())


def explained(report: Report) -> Iterator[str]:
    """Which rows are of fewer images, and what the column of gains means, where there are any."""
    fewer: dict[tuple[int, float], list[str]] = defaultdict(list)  # by images, and what float has right of them
    for name, file in files(report):
        if not isinstance(file.accuracy, NotMeasured) and file.accuracy.n < report.reference.n:
            fewer[file.accuracy.n, file.accuracy.reference_top1].append(name)
    for (n, top1), names in fewer.items():
        said = f"on {n:,} of {report.reference.n:,} images (float {top1:.2%}): {', '.join(names)}"
        yield f"{said}; emulated here, and these images show enough: --proof full judges all"
    if any(not isinstance(file.speed_up, NotMeasured) for _, file in files(report)):
        yield "gain: times as fast as the float file for the same runtime, both timed in turns"


def left_in_float(report: Report) -> Iterator[str]:
    """How many layers `--max-drop` left in float, and what for."""
    if isinstance(report.mixed, NotMeasured):
        return
    found = report.mixed
    if not found.units:
        yield f"no layer had to stay in float: {found.int8}"
        return
    layers = "1 layer stays" if len(found.units) == 1 else f"{len(found.units)} layers stay"
    yield f"{layers} in float, {found.float_mac_fraction:.0%} of the multiply-accumulates: {found.mixed},"
    yield f"with all in INT8 {found.int8.changed} ({found.int8.expected:.2%} expected); qparams.json has the reasons"


def executors(report: Report) -> dict[str, list[str]]:
    """The files that each runtime executed."""
    found: dict[str, list[str]] = defaultdict(list)
    for name, file in files(report):
        if not isinstance(file.executed_by, NotMeasured):
            found[file.executed_by].append(name)
    return found


def reasons(report: Report) -> Iterator[str]:
    """Every reason for a dash, once, with what it holds for."""
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    if isinstance(report.reference.top1, NotMeasured):
        found[report.reference.top1.reason]["accuracy"].append("the reference")
    for name, file in files(report):
        for measure, reason in unmeasured(file).items():
            found[reason][measure].append(name)
    for reason, measures in found.items():
        missing = "; ".join(f"no {measure} of {', '.join(names)}" for measure, names in measures.items())
        yield f"{missing}: {reason}"


def unmeasured(file: FileResult) -> dict[str, str]:
    """What is missing of one file, and why; a file that never ran misses its execution, and all else with it."""
    values: dict[str, Measurement[object]] = {
        "execution": file.executed_by,
        "accuracy": file.accuracy,
        "agreement": file.agreement_with_reference,
        "latency": file.latency,
        "INT8 share": file.coverage,
    }
    missing = {measure: value.reason for measure, value in values.items() if isinstance(value, NotMeasured)}
    never_ran = missing.get("execution")
    return {measure: why for measure, why in missing.items() if measure == "execution" or why != never_ran}


def rows(report: Report) -> Iterator[tuple[str, ...]]:
    """The cells of every file, in the order of `COLUMNS`."""
    yield from ((name, *cells(file)) for name, file in files(report))


def cells(file: FileResult) -> tuple[str, ...]:
    """The measured values of one file as text, in the order of `COLUMNS` after the target."""
    return (
        file.file.path.name,
        f"{file.file.bytes / 1e6:.1f}",
        shown(file.accuracy, lambda accuracy: f"{accuracy.top1:.2%}"),
        shown(file.accuracy, lambda accuracy: f"{accuracy.drop * 100:+.2f} pt"),
        shown(file.agreement_with_reference, lambda agreement: f"{agreement:.2%}"),
        shown(file.latency, lambda latency: f"{latency.p50_ms:.2f}"),
        shown(file.speed_up, lambda times: f"{times:.1f}x"),
        shown(file.coverage, int8_share),
    )
