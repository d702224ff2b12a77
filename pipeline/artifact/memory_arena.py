"""How much memory a graph's activations need at least once, when each tensor's place is planned in advance."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

ALIGNMENT = 64  # bytes; TensorFlow Lite's tensors start at multiples of it
METHOD = "greedy by size over tensor lifetimes, 64-byte alignment"


@dataclass(frozen=True, kw_only=True)
class Life:
    """One tensor's bytes, and the first and last step at which they must not be overwritten."""

    bytes: int
    first: int
    last: int

    def meets(self, other: Life) -> bool:
        """Whether both are needed at the same step."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A tensor and where it starts."""

    life: Life
    offset: int

    @property
    def end(self) -> int:
        """The byte behind it."""
        return self.offset + self.life.bytes


def peak_bytes(lives: Iterable[Life]) -> int:
    """The length of the arena that `place` fills."""
    return max((tensor.end for tensor in place(lives)), default=0)


def place(lives: Iterable[Life]) -> list[Placed]:
    """The largest tensor first, each in the smallest gap between those that live at the same time.

    It is how TensorFlow Lite's own planner works (ArenaPlanner; Pisarchyk and Lee, arXiv:2001.03288, greedy by size).
    """
    placed: list[Placed] = []
    for life in sorted(lives, key=lambda tensor: (-tensor.bytes, tensor.first)):
        placed.append(Placed(life=life, offset=_offset(life, placed)))
        placed.sort(key=lambda tensor: tensor.offset)
    return placed


def _offset(life: Life, placed: Iterable[Placed]) -> int:
    end, best = 0, None
    for neighbour in placed:
        if not neighbour.life.meets(life):
            continue
        gap = neighbour.offset - end
        if gap >= life.bytes and (best is None or gap < best[0]):
            best = gap, end
        end = max(end, -(-neighbour.end // ALIGNMENT) * ALIGNMENT)
    return end if best is None else best[1]
