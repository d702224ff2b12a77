"""A gate's result as a page: verdict, rows, intervals beside what is allowed, flipped images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from itertools import groupby, takewhile

from rexnet_export.apps.gate.outputs.sheet import Row, Sheet, Status
from rexnet_export.apps.shared.html.document import document
from rexnet_export.apps.shared.html.flips import SHOWN, grid
from rexnet_export.apps.shared.html.plots import Interval, interval_plot
from rexnet_export.apps.shared.html.table import table

WORDS: dict[Status, str] = {
    "passed": "good",
    "noted": "good",
    "failed": "bad",
    "error": "bad",
    "undecided": "open",
    "skipped": "open",
}


def page(sheet: Sheet) -> str:
    """The whole document."""
    return document(f"{sheet.command}: {sheet.verdict}", _parts(sheet))


def _parts(sheet: Sheet) -> Iterator[str]:
    yield f"<h1>{escape(sheet.command)}: {escape(sheet.verdict)}</h1>"
    yield f'<p class="lead">{escape(sheet.title)}<br>{escape(sheet.created)}</p>'
    for columns, rows in groupby(sheet.rows, lambda row: tuple(row.figures)):
        yield _rows(columns, list(rows))
    for row in sheet.rows:
        if row.status != "passed":
            yield f'<p class="note {WORDS[row.status]}">{escape(f"{row.target} {row.check}: {row.message}")}</p>'
    for note in sheet.notes:
        yield f'<p class="note">{escape(note)}</p>'
    yield from _intervals(sheet)
    for title, cards in sheet.cards.items():
        shown = f'<p class="lead">The first {SHOWN}, lost ones before others.</p>' if len(cards) == SHOWN else ""
        yield f"<h2>{escape(title)}</h2>{shown}{grid(cards)}"


def _rows(columns: Sequence[str], rows: Sequence[Row]) -> str:
    cells = (
        (
            escape(row.target),
            escape(row.check),
            f'<b class="{WORDS[row.status]}">{escape(row.verdict)}</b>',
            *map(escape, row.figures.values()),
        )
        for row in rows
    )
    return table(("artifact", "check", "verdict", *map(escape, columns)), cells)


def _short(subjects: Sequence[str]) -> dict[str, str]:
    """Subjects without the words that all begin with; the last word of each stays."""
    words = {subject: subject.split() for subject in subjects}
    shared = len(list(takewhile(lambda column: len(set(column)) == 1, zip(*words.values(), strict=False))))
    return {
        subject: " ".join(found[min(shared, min(map(len, words.values())) - 1) :]) for subject, found in words.items()
    }


def _intervals(sheet: Sheet) -> Iterator[str]:
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
        lead = "Dots: measured; lines: one-sided 95 % limits; ticks: what is allowed."
        yield f'<h2>In {escape(unit)}</h2><p class="lead">{lead}</p>{interval_plot(found, unit)}'
