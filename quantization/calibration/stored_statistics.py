"""Statistics of tensors as plain arrays, exact to the digit."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from rexnet_export.quantization.calibration.observe import TensorStatistics

ARRAYS = ("channel_minima", "channel_maxima", "counts")


def to_arrays(statistics: Mapping[str, TensorStatistics]) -> dict[str, NDArray[np.generic]]:
    """Arrays by names that `from_arrays` knows; a tensor's name may hold anything."""
    arrays: dict[str, NDArray[np.generic]] = {"names": np.array(list(statistics))}
    for place, each in enumerate(statistics.values()):
        arrays[f"{place} whole"] = np.array([each.images, each.exponent], np.int64)
        arrays[f"{place} extremes"] = np.array([each.minimum, each.maximum], np.float64)
        arrays[f"{place} sums"] = np.array([str(each.sum_of_minima), str(each.sum_of_maxima)])
        arrays |= {f"{place} {name}": getattr(each, name) for name in ARRAYS}
    return arrays


def from_arrays(arrays: Mapping[str, NDArray[np.generic]]) -> dict[str, TensorStatistics]:
    """The same statistics back."""
    found = {}
    for place, name in enumerate(arrays["names"].tolist()):
        images, exponent = arrays[f"{place} whole"].tolist()
        minimum, maximum = arrays[f"{place} extremes"].tolist()
        minima, maxima = map(Fraction, arrays[f"{place} sums"].tolist())
        found[name] = TensorStatistics(
            images=images,
            minimum=minimum,
            maximum=maximum,
            sum_of_minima=minima,
            sum_of_maxima=maxima,
            channel_minima=arrays[f"{place} channel_minima"].astype(np.float32),
            channel_maxima=arrays[f"{place} channel_maxima"].astype(np.float32),
            exponent=exponent,
            counts=arrays[f"{place} counts"].astype(np.int64),
        )
    return found
