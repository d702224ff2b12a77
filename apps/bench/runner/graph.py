"""What a runtime made of a file."""

from __future__ import annotations

from typing import NamedTuple


class Graph(NamedTuple):
    """What the runtime made of the file: nodes in all, nodes a delegate took (None: it does not say), by whom they
    were run, and notes."""

    total_nodes: int | None
    delegated_nodes: int | None
    executed_by: str | None
    notes: dict[str, str | int]
