"""Choosing between two readings of the same images by what the float network answers: paired, with its figure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rexnet_export.pipeline.accuracy.paired_statistics import mcnemar_p

CLEAR_P = 0.01
CLEAR_GAIN = 0.01  # of top-1: what is less is not worth a word


@dataclass(frozen=True, kw_only=True)
class Paired:
    """Another reading beside the present one on `n` images: `gained` are right with it alone, `lost` without it alone.

    `p` is that of "the other is not better", by McNemar's exact test.
    """

    n: int
    top1: float
    present_top1: float
    gained: int
    lost: int
    p: float

    def clear(self, tries: int = 1) -> bool:
        """Whether the other is better beyond doubt, after so many tries."""
        return self.p * tries < CLEAR_P and self.gained - self.lost >= CLEAR_GAIN * self.n

    def __str__(self) -> str:
        return (
            f"top-1 {self.top1:.1%} against {self.present_top1:.1%} on the same {self.n:,} images ({self.gained} more "
            f"right, {self.lost} more wrong)"
        )


def paired(present: NDArray[np.bool_], other: NDArray[np.bool_]) -> Paired:
    """Both readings' right answers [n], image by image."""
    gained, lost = int((other & ~present).sum()), int((present & ~other).sum())
    return Paired(
        n=len(present),
        top1=float(other.mean()),
        present_top1=float(present.mean()),
        gained=gained,
        lost=lost,
        p=mcnemar_p(gained, lost),
    )
