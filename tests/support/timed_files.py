"""Artifacts that only pretend to run: a clock of their own, and every request noted."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain, repeat

import numpy as np


@dataclass
class FakeTimed:
    """Takes `milliseconds` for an inference; the reference kernel takes the listed microseconds, then the last."""

    name: str
    milliseconds: float
    kernels: list[float] = field(default_factory=lambda: [400.0])
    asked: list[tuple[str, str, int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._kernels = chain(self.kernels, repeat(self.kernels[-1]))

    def time_block(self, image: np.ndarray, *, dropped: int, counted: int) -> tuple[int, ...]:
        assert len(image) == 1
        self.asked.append((self.name, "block", dropped, counted))
        return (round(self.milliseconds * 1e6),) * counted

    def time_kernel(self, *, dropped: int, counted: int) -> int:
        self.asked.append((self.name, "kernel", dropped, counted))
        return round(next(self._kernels) * 1e3)
