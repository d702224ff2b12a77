"""Tables for a terminal."""

from __future__ import annotations

from rich import box
from rich.table import Table
from rich.text import Text


def titled(title: str) -> Table:
    """A table without columns yet, its title above it at the left."""
    return Table(
        title=Text(title),
        title_justify="left",
        title_style="italic",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        show_edge=False,
    )
