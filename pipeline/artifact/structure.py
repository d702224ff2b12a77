"""What a file is built of, as a target reads it from the file on disk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rexnet_export.pipeline.core.records import Measurement


@dataclass(frozen=True, kw_only=True)
class Structure:
    """Bytes of constants, operators by type, and what keeps arithmetic from being INT8 throughout.

    A float island is a group of float operators that feed each other; `qdq_pairs` are conversions between integers and
    real numbers that are left inside the graph; `arena_bytes` holds all activations, planned as `arena_method` says.
    """

    tensor_bytes: int
    operators: Mapping[str, int]
    float_islands: int
    qdq_pairs: Measurement[int]
    arena_bytes: Measurement[int]
    arena_method: str = ""


def islands(operators: Iterable[tuple[Iterable[str], Iterable[str]]]) -> int:
    """Groups of operators, given as names of their inputs and outputs, that are joined by what one makes for another;
    reading the same tensor joins nobody."""
    group: dict[int, int] = {}
    read = [(set(inputs), set(outputs)) for inputs, outputs in operators]
    maker = {name: position for position, (_, outputs) in enumerate(read) for name in outputs}
    for position, (inputs, _) in enumerate(read):
        joined = {position, *(maker[name] for name in inputs if name in maker)}
        merged = {group.get(member, member) for member in joined}
        root = min(merged)
        group |= {member: root for member, at in group.items() if at in merged} | dict.fromkeys(joined, root)
    return len(set(group.values()))
