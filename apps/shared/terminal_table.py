"""Tables for a terminal: figures in columns, and names that no width breaks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Literal

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from rexnet_export.apps.shared.text import DASH
from rexnet_export.pipeline.core.text import printable

UNBOUNDED = 10_000  # columns
HEAD_LINES = 2  # titles and a rule

type Cell = str | Text
type Row = Sequence[Cell]


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column, of figures unless it says otherwise.

    Where a table is wider than the terminal, a `name` gets a line of its own above its row's figures and a `sentence`
    one below; then columns go by their `spare` number, the lowest first. Those with 0 stay.
    """

    title: str
    left: bool = False
    name: bool = False
    sentence: bool = False
    spare: int = 0


class FittedTable:
    """Rows under a title, in one line each where the terminal is wide enough; nothing in a cell is cut or broken."""

    def __init__(self, title: str, columns: Sequence[Column], rows: Sequence[Row]) -> None:
        self._title = printable(title)
        self._columns = tuple(columns)
        self._rows = [[_on_one_line(cell) for cell in row] for row in rows]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The widest form that fits."""
        if self._title:
            yield Paragraph(self._title, "italic")
        every = list(range(len(self._columns)))
        whole = self._grid(every)
        natural = _width(console, options, whole)
        if natural <= options.max_width:
            yield whole
            return
        shown = [place for place in every if not (self._columns[place].name or self._columns[place].sentence)]
        spare = sorted((place for place in shown if self._columns[place].spare), key=lambda p: self._columns[p].spare)
        left_out: list[int] = []
        while spare and _width(console, options, self._grid(shown)) > options.max_width:
            left_out.append(spare.pop(0))
            shown.remove(left_out[-1])
        yield from self._narrow(console, options, shown)
        if left_out:
            titles = ", ".join(self._columns[place].title for place in left_out)
            yield Paragraph(f"no room for {titles}: {natural} columns show all", "dim")

    def _grid(self, places: Sequence[int]) -> Table:
        grid = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
        for column in (self._columns[place] for place in places):
            justify: Literal["left", "right"] = "left" if column.left or column.name or column.sentence else "right"
            grid.add_column(Text(column.title), justify=justify, no_wrap=True)
        for row in self._rows:
            grid.add_row(*(row[place] for place in places))
        return grid

    def _narrow(self, console: Console, options: ConsoleOptions, shown: Sequence[int]) -> RenderResult:
        grid = self._grid(shown)
        lines = console.render_lines(grid, options.update(width=_width(console, options, grid)), pad=False)
        for line in lines[:HEAD_LINES]:
            yield from (*line, Segment.line())
        before: list[Text] = []
        for row, line in zip(self._rows, lines[HEAD_LINES:], strict=True):
            names = [cell for column, cell in zip(self._columns, row, strict=True) if column.name]
            if names != before:  # rows of one name stand under it together
                yield from (Paragraph(name.plain) for name in names)
            yield from (*line, Segment.line())
            yield from self._sentences(row)
            before = names

    def _sentences(self, row: Sequence[Text]) -> Iterator[Paragraph]:
        for column, cell in zip(self._columns, row, strict=True):
            if column.sentence and cell.plain not in ("", DASH):
                yield Paragraph(f"  {column.title}: {cell.plain}")


class Paragraph:
    """A text whose lines end between words, however long a word is."""

    def __init__(self, text: str, style: str = "") -> None:
        self._text, self._style = printable(text), style

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> RenderResult:
        """Its lines."""
        for line in wrap(self._text, options.max_width, break_long_words=False, break_on_hyphens=False) or [""]:
            yield Text(line, style=self._style, no_wrap=True, overflow="ignore")


def _on_one_line(cell: Cell) -> Text:
    """Names come from outside: without signs that break a line or command a terminal."""
    return Text(printable(cell)) if isinstance(cell, str) else cell


def _width(console: Console, options: ConsoleOptions, grid: Table) -> int:
    """Of the whole table, were there room."""
    return Measurement.get(console, options.update(width=UNBOUNDED), grid).maximum
