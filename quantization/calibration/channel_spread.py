"""How even the channels of a tensor are: what equalization is for, before and after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from rexnet_export.quantization.calibration.observe import TensorStatistics

QUANTILES = (0.0, 0.1, 0.5, 0.9, 1.0)
LEAST_CHANGE = 0.01  # of a ratio; less is no change

type Ratios = tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Spread:
    """One tensor's channel ranges over the tensor's range, at `QUANTILES` of its channels, before and after.

    1 is a channel that uses the whole INT8 range, 1/256 one that has a single step of it.
    """

    tensor: str
    before: Ratios
    after: Ratios


def spreads(before: Mapping[str, TensorStatistics], after: Mapping[str, TensorStatistics]) -> tuple[Spread, ...]:
    """The tensors of both graphs whose channels were evened out, in graph order."""
    found = [
        Spread(tensor=name, before=ratios(before[name]), after=ratios(after[name])) for name in before if name in after
    ]
    return tuple(each for each in found if not np.allclose(each.before, each.after, rtol=LEAST_CHANGE, atol=0.0))


def ratios(statistics: TensorStatistics) -> Ratios:
    """Quantiles of the channels' ranges, each over the range of the tensor; zeros where nothing varies."""
    ranges = statistics.channel_maxima.astype(np.float64) - statistics.channel_minima
    whole = statistics.maximum - statistics.minimum
    shares = ranges / whole if whole else np.zeros_like(ranges)
    return tuple(round(float(value), 6) for value in np.quantile(shares, QUANTILES))
