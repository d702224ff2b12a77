"""A gate's result as a page: verdict, rows, intervals beside what is allowed, flipped images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, takewhile

from markupsafe import Markup

from rexnet_export.apps.gate.outputs.sheet import Sheet
from rexnet_export.apps.gate.words import Status
from rexnet_export.apps.shared.html.document import render
from rexnet_export.apps.shared.html.flips import SHOWN
from rexnet_export.apps.shared.html.plots import Interval, interval_plot

CLASSES: dict[Status, str] = {
    "passed": "good",
    "noted": "good",
    "failed": "bad",
    "error": "bad",
    "undecided": "open",
    "skipped": "open",
}


def page(sheet: Sheet) -> str:
    """The whole document."""
    tables = [(columns, list(rows)) for columns, rows in groupby(sheet.rows, lambda row: tuple(row.figures))]
    return render(
        __package__,
        "gate.html",
        title=f"{sheet.command}: {sheet.words.verdict}",
        sheet=sheet,
        tables=tables,
        classes=CLASSES,
        intervals=list(_intervals(sheet)),
        shown=SHOWN,
    )


def _short(subjects: Sequence[str]) -> dict[str, str]:
    """Subjects without the words that all begin with; the last word of each stays."""
    words = {subject: subject.split() for subject in subjects}
    shared = len(list(takewhile(lambda column: len(set(column)) == 1, zip(*words.values(), strict=False))))
    return {
        subject: " ".join(found[min(shared, min(map(len, words.values())) - 1) :]) for subject, found in words.items()
    }


def _intervals(sheet: Sheet) -> Iterator[tuple[str, Markup]]:
    """One picture for each unit that has limits and something they are held against."""
    bounded = [m for m in sheet.metrics if m.lower is not None and m.upper is not None and m.allowed is not None]
    names = _short([metric.subject for metric in bounded])
    for unit, metrics in groupby(sorted(bounded, key=lambda metric: metric.unit), key=lambda metric: metric.unit):
        found = [
            Interval(
                name=f"{names[metric.subject]} {metric.measure}",
                value=metric.value,
                lower=float(metric.lower or 0.0),
                upper=float(metric.upper or 0.0),
                allowed=float(metric.allowed or 0.0),
            )
            for metric in metrics
        ]
        yield unit, interval_plot(found, unit)
