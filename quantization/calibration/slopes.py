"""How strongly the logits answer to the values of a tensor: what turns its rounding into their noise.

Where a network has several heads, the numbers of all count as logits, in one unit.

A rounding error is as likely up as down and knows nothing of its neighbours', so to first order a tensor alone in INT8
gives the logits z a mean squared error of

    sum over values x of E[error(x)^2] s(x),   s(x) = mean over logits of (dz / dx)^2

and the errors of several tensors add up. For random signs r, s(x) is the mean of (d(r.z) / dx)^2 over the number of
logits (Hutchinson 1990), so one backward pass finds it for every value of every tensor at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rexnet_export.quantization.calibration.observe import BINS, TensorStatistics, bins_of
from rexnet_export.quantization.calibration.sigmoid_limits import Span

AT_ONCE = 2**16  # values whose bins are looked up together: what they take stays in the processor's cache

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


def none(statistics: TensorStatistics) -> Slopes:
    """Of a tensor that nothing is known to answer to."""
    return Slopes(by_channel=np.zeros(statistics.channel_minima.shape), by_value=np.zeros(2 * BINS))


def summed(
    values: NDArray[np.float32], squared: NDArray[np.float32], statistics: TensorStatistics, useful: Span | None
) -> Slopes:
    """Squared slopes [N, C, ...] of values [N, C, ...], by channel and by value; values beyond `useful` count as its
    ends."""
    by_value, flat, weights = np.zeros(2 * BINS), values.ravel(), squared.ravel()
    for start in range(0, flat.size, AT_ONCE):  # into the same sums in the same order: what one `bincount` gives
        some = slice(start, start + AT_ONCE)
        within = flat[some] if useful is None else np.clip(flat[some], *useful)
        np.add.at(by_value, bins_of(within, statistics.exponent), weights[some].astype(np.float64))
    return Slopes(by_channel=squared.sum(axis=(0, *range(2, squared.ndim)), dtype=np.float64), by_value=by_value)
