"""Tables with something wrong in one place."""

from __future__ import annotations

from dataclasses import replace

from rexnet_export.quantization.table.params import from_range
from rexnet_export.quantization.table.table import QuantTable


def spoiled(table: QuantTable, name: str, times: float = 100.0) -> QuantTable:
    """The table with one observed tensor's range so many times too wide."""
    entry = table.tensors[name]
    assert entry.observed is not None
    low, high = (end * times for end in entry.observed)
    return replace(
        table,
        tensors={**table.tensors, name: replace(entry, params=from_range(low, high), observed=(low, high))},
    )
