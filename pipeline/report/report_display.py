"""How a report shows itself in Python: a line, and a table for notebooks."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING

from rexnet_export.pipeline.core.records import NotMeasured
from rexnet_export.pipeline.proof.results import FileResult

if TYPE_CHECKING:
    from rexnet_export.pipeline.report.report import Report

HEAD = ("target", "file", "MB", "top-1", "agreement", "INT8")


def one_line(report: Report) -> str:
    """The network, its files and what they score, and where they are."""
    scores = ", ".join(f"{name} {_top1(file) or 'not measured'}" for name, file in _files(report))
    return f"<Report of {report.card.name} {report.precision}: top-1 {scores}; {report.output}>"


def html_table(report: Report) -> str:
    """A row a file; everything is escaped."""
    head = "".join(f"<th>{name}</th>" for name in HEAD)
    every = (_row(*each, report.reference.n) for each in _files(report))
    rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in every)
    caption = escape(f"{report.card.name} {report.precision}, {report.reference.n:,} images, in {report.output}")
    return f"<table><caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _files(report: Report) -> Iterator[tuple[str, FileResult]]:
    for name, target in report.targets.items():
        yield name, target.artifact
        yield from ((f"{name} {preset}", file) for preset, file in target.presets.items())


def _row(name: str, file: FileResult, images: int) -> tuple[str, ...]:
    agreement, coverage, accuracy = file.agreement_with_reference, file.coverage, file.accuracy
    fewer = "" if isinstance(accuracy, NotMeasured) or accuracy.n == images else f" on {accuracy.n:,}"
    return (
        name,
        file.file.path.name,
        f"{file.file.bytes / 1e6:.1f}",
        (_top1(file) or "-") + fewer,
        "-" if isinstance(agreement, NotMeasured) else f"{agreement:.2%}",
        "-" if isinstance(coverage, NotMeasured) else f"{int(coverage.int8_mac_fraction * 100)}%",
    )


def _top1(file: FileResult) -> str:
    return "" if isinstance(file.accuracy, NotMeasured) else f"{file.accuracy.top1:.2%}"
