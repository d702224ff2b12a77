"""A gate's result as rows and measures, whichever gate it was: all that the outputs for CI are written from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, Literal

from rexnet_export.apps.gate.words import Reason, Subject, Words, grouped
from rexnet_export.apps.shared.html.flips import Card
from rexnet_export.pipeline.core.errors import ExportError
from rexnet_export.pipeline.core.json import now
from rexnet_export.pipeline.core.text import printable

type Better = Literal["smaller", "bigger", "neither"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One question about one artifact, what is said of it, and `figures` by column."""

    target: str
    check: str
    words: Words
    figures: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One number to follow over time, with limits where it has them; `allowed` is what the gate lets the upper one be.

    `neither`: a difference around zero; how it compares with an older one says nothing.
    """

    subject: str
    measure: str
    value: float
    unit: str
    better: Better
    lower: float | None = None
    upper: float | None = None
    allowed: float | None = None


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """Everything one run of a gate says; `words` are of the whole.

    `lists` are longer ones by title, such as flipped images, and `cards` the same images as pages show them.
    """

    command: str
    title: str
    words: Words
    created: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    metrics: tuple[Metric, ...] = ()
    lists: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    cards: Mapping[str, tuple[Card, ...]] = field(default_factory=dict)

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """Why rows are no plain passes: every reason once, with all rows that it is said of."""
        return grouped((Subject(target=row.target, check=row.check), row.words) for row in self.rows)


def printable_sheet(sheet: Sheet) -> Sheet:
    """The sheet with every text in it made fit for all that is written from it."""
    found: Sheet = _printable(sheet)
    return found


def _printable(value: Any) -> Any:  # noqa: ANN401 - whatever a sheet is made of
    if isinstance(value, str):
        return printable(value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{part.name: _printable(getattr(value, part.name)) for part in fields(value)})
    if isinstance(value, Mapping):
        return {_printable(key): _printable(item) for key, item in value.items()}
    return tuple(map(_printable, value)) if isinstance(value, tuple) else value


def not_done(command: str, error: BaseException) -> Sheet:
    """What is left to say of a run that ended before there was a result."""
    message = f"unexpected {error!r}"
    if isinstance(error, ExportError | KeyboardInterrupt):
        message = str(error) or "interrupted"
    words = Words(verdict="NOT DONE", status="error", reason=message)
    row = Row(target=command, check="run", words=words)
    return Sheet(command=command, title="ended before there was a result", words=words, created=now(), rows=(row,))
