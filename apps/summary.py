"""The closing table of an export."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rich import box
from rich.table import Table
from rich.text import Text

from rexnet_export.pipeline.records import Measurement, NotMeasured
from rexnet_export.pipeline.report import FileResult, Report

COLUMNS = ("target", "file", "MB", "top-1", "drop", "agree", "p50 ms", "INT8")
DASH = "-"


def table(report: Report) -> Table:
    """One row per file; a dash stands for what was not measured, and the reasons follow below the table."""
    reference = report.reference
    said = "" if isinstance(reference.top1, NotMeasured) else f", top-1 {reference.top1:.2%}"
    title = f"{report.card.name}: float reference on {reference.n:,} images{said}"
    grid = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for column in COLUMNS:
        grid.add_column(column, justify="left" if column in COLUMNS[:2] else "right", no_wrap=True)
    for row in rows(report):
        grid.add_row(*row)
    grid.caption = Text("\n".join(executions(report)))
    grid.caption_justify = "left"
    return grid


def executions(report: Report) -> Iterator[str]:
    """Who executed each target's artifact, or why nobody did."""
    for name, result in report.targets.items():
        executed = result.artifact.executed_by
        if isinstance(executed, NotMeasured):
            yield f"{name} was not executed: {executed.reason}"
        else:
            yield f"{name} was executed by {executed}"


def rows(report: Report) -> Iterator[tuple[str, ...]]:
    """The cells of every artifact, each followed by its presets."""
    for name, result in report.targets.items():
        yield (name, *cells(result.artifact))
        yield from ((f"{name} {preset}", *cells(file)) for preset, file in result.presets.items())


def cells(file: FileResult) -> tuple[str, ...]:
    """The measured values of one file as text, in the order of `COLUMNS` after the target."""
    return (
        file.file.path.name,
        f"{file.file.bytes / 1e6:.1f}",
        shown(file.accuracy, lambda accuracy: f"{accuracy.top1:.2%}"),
        shown(file.accuracy, lambda accuracy: f"{accuracy.drop * 100:+.2f} pt"),
        shown(file.agreement_with_reference, lambda agreement: f"{agreement:.2%}"),
        shown(file.latency, lambda latency: f"{latency.p50_ms:.2f}"),
        shown(file.coverage, lambda coverage: f"{coverage.int8_mac_fraction:.0%}"),
    )


def shown[T](value: Measurement[T], text: Callable[[T], str]) -> str:
    """The value as text, or a dash for what was not measured."""
    return DASH if isinstance(value, NotMeasured) else text(value)
