"""How strongly the logits answer to the values of a tensor: what turns its rounding into their noise.

Where a network has several heads, the numbers of all count as logits, in one unit.

A rounding error is as likely up as down and knows nothing of its neighbours', so to first order a tensor alone in INT8
gives the logits z a mean squared error of

    sum over values x of E[error(x)^2] s(x),   s(x) = mean over logits of (dz / dx)^2

and the errors of several tensors add up. For random signs r, s(x) is the mean of (d(r.z) / dx)^2 over the number of
logits (Hutchinson 1990), so one backward pass finds it for every value of every tensor at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rexnet_export.quantization.calibration.observe import BINS, TensorStatistics, bins_of
from rexnet_export.quantization.calibration.sigmoid_limits import Span

type Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Slopes:
    """Squared slopes s of one tensor, averaged over images and summed over all its values of a kind.

    `by_channel` is [C]; `by_value` [2 * BINS] goes by the bins of the tensor's `TensorStatistics`.
    """

    by_channel: Floats
    by_value: Floats

    def __add__(self, other: Slopes) -> Slopes:
        return Slopes(by_channel=self.by_channel + other.by_channel, by_value=self.by_value + other.by_value)


def summed(
    values: NDArray[np.float32],
    probes: Sequence[NDArray[np.float32]],
    statistics: TensorStatistics,
    useful: Span | None,
) -> Slopes:
    """Squared slopes [N, C, ...] of values [N, C, ...], as each probe found them, by channel and by value.

    Values beyond `useful` count as its ends.
    """
    within = values if useful is None else np.clip(values, *useful)
    bins = bins_of(within.ravel(), statistics.exponent)
    first, *others = (
        Slopes(
            by_channel=squared.sum(axis=(0, *range(2, squared.ndim)), dtype=np.float64),
            by_value=np.bincount(bins, squared.ravel(), 2 * BINS).astype(np.float64, copy=False),
        )
        for squared in probes
    )
    return sum(others, start=first)
