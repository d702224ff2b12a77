"""From what was observed to the range that INT8 shall cover.

`min-max` takes the extremes, `mean-min-max` the mean over images of each image's own, `percentile-P` drops values at
both ends, `entropy` keeps the distribution's information, `mse` makes rounding and clipping err least together, and
`logit-mse` does where every error counts by the slope of the logits there. Every range lies within the extremes widened
to zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import starmap

import numpy as np
from numpy.typing import NDArray

from rexnet_export.quantization.calibration.observe import BINS, TensorStatistics
from rexnet_export.quantization.calibration.slopes import Slopes
from rexnet_export.quantization.calibration.statistic_names import LEAST_NOISE, percent_of
from rexnet_export.quantization.table.params import INT8_MAX, INT8_MIN, LEVELS, QuantParams, from_range

_MOST_BINS = 2048
_COARSE, _FINE = 16, 8  # shrunk ends tried in one pass over the whole range, and around the best
_PASSES = 3
# Of ends that are all but equal, last bits decide, and those hang on how cubes are computed: as powers. Products take a
# twentieth of the time, and leave few ends, this near the best, of which the powers are needed.
_NEAR = 1e-6
_THRESHOLDS = 96

type Range = tuple[float, float]
type Cube = Callable[[NDArray[np.float64]], NDArray[np.float64]]
type Weights = NDArray[np.int64] | NDArray[np.float64]  # of the bins of a histogram: counts, or slopes


@dataclass(frozen=True, kw_only=True)
class ObservedRange:
    """What INT8 shall cover of one tensor, and the statistic that says so."""

    low: float
    high: float
    statistic: str


def ranged(statistics: TensorStatistics, statistic: str) -> ObservedRange:
    """One tensor's range by one of the module's statistics."""
    low, high = observed_range(statistics, statistic)
    return ObservedRange(low=low, high=high, statistic=statistic)


def observed_range(statistics: TensorStatistics, statistic: str) -> Range:
    """(low, high) of one tensor by one of the module's statistics; `percentile` is `percentile-99.99`."""
    if statistic in _RANGES:
        return _RANGES[statistic](statistics)
    return _percentile(statistics, percent_of(statistic))


def least_noise(statistics: TensorStatistics, slopes: Slopes) -> ObservedRange:
    """One tensor's range from which the least noise in the logits is predicted; without any slope, its extremes."""
    seen = slopes.by_value.any()
    low, high = _least_squared_error(statistics, slopes.by_value) if seen else _min_max(statistics)
    return ObservedRange(low=low, high=high, statistic=LEAST_NOISE)


def _min_max(statistics: TensorStatistics) -> Range:
    return statistics.minimum, statistics.maximum


def _mean_min_max(statistics: TensorStatistics) -> Range:
    return statistics.mean_minimum, statistics.mean_maximum


def _percentile(statistics: TensorStatistics, percent: float) -> Range:
    """Without (100 - P) / 2 % of the values at each end."""
    cumulative = np.cumsum(statistics.counts)
    dropped = int(cumulative[-1] * (100.0 - percent) / 200.0)
    first = int(np.searchsorted(cumulative, dropped, side="right"))
    last = int(np.searchsorted(cumulative, cumulative[-1] - dropped, side="left"))
    width = 2.0**statistics.exponent
    # A bin is kept whole; the ends of the range are values that did occur, so never beyond the exact extremes.
    return max((first - BINS) * width, statistics.minimum), min((last - BINS + 1) * width, statistics.maximum)


def _mse(statistics: TensorStatistics) -> Range:
    """The pair of ends with the least squared error."""
    return _least_squared_error(statistics, statistics.counts)


def _least_squared_error(statistics: TensorStatistics, weights: Weights) -> Range:
    """The pair of ends with the least weighted squared error, searched one end at a time from the extremes inwards."""
    edges, counts = _coarse(*_histogram(statistics, weights))
    low, high = min(statistics.minimum, 0.0), max(statistics.maximum, 0.0)
    grid_of = cache(from_range)  # most ends are tried in every pass
    quick, exact = (cache(partial(_mean_squares, edges, cube)) for cube in (_product, _power))

    def errors(rows: Sequence[NDArray[np.float64]], grids: Sequence[QuantParams]) -> NDArray[np.float64]:
        scales = np.array([grid.scale[0] for grid in grids])
        found = (np.stack(rows) @ counts) * scales**2 / counts.sum()
        return np.where(np.isnan(found), np.inf, found)

    def best(candidates: list[Range]) -> Range:
        grids = list(starmap(grid_of, candidates))
        rows = [quick(grid) for grid in grids]
        found = errors(rows, grids)
        near: list[int] = np.flatnonzero(found <= found.min() * (1.0 + _NEAR)).tolist()
        if len(near) > 1:
            for index in near:
                rows[index] = exact(grids[index])
            found = errors(rows, grids)  # of all again: what else is in a product may change a row's last bits
        return candidates[min(near, key=lambda index: float(found[index]))]  # the first of equals: the widest

    found = low, high
    for _ in range(_PASSES):
        found = best([found, *((found[0], end) for end in _shrunk(high, found[1]))])
        found = best([found, *((end, found[1]) for end in _shrunk(low, found[0]))])
    return found


def _shrunk(extreme: float, current: float) -> list[float]:
    """Ends to try: all the way from the extreme to near zero, and in small steps around the current one."""
    if extreme == 0.0:
        return []
    coarse = extreme * np.geomspace(1.0, 0.02, _COARSE)
    fine = current * np.linspace(0.92, 1.08, _FINE)
    return [end for end in (*coarse.tolist(), *fine.tolist()) if abs(end) <= abs(extreme)]


def _entropy(statistics: TensorStatistics) -> Range:
    """The range |x| <= t whose INT8 form diverges least (Kullback-Leibler) from the observed distribution.

    As in TensorRT's calibration (Migacz 2017): values beyond count at the ends, every INT8 level spreads evenly over
    the occupied bins it stands for. Each end stops at its extreme; the bin of zero, which every grid has, is left out.
    """
    edges, counts = _histogram(statistics, statistics.counts)
    weights = np.where((edges[:-1] <= 0.0) & (edges[1:] > 0.0), 0, counts)
    centres = (edges[:-1] + edges[1:]) / 2.0
    largest, width = max(-statistics.minimum, statistics.maximum), 2.0**statistics.exponent
    if largest == 0.0:
        return 0.0, 0.0
    thresholds = np.geomspace(largest, min(largest, LEVELS * width), _THRESHOLDS)
    candidates = [(max(statistics.minimum, -t), min(statistics.maximum, t)) for t in thresholds.tolist()]
    divergences = [_divergence(weights, centres, from_range(*candidate)) for candidate in candidates]
    return candidates[int(np.argmin(divergences))]


def _divergence(counts: NDArray[np.int64], centres: NDArray[np.float64], params: QuantParams) -> float:
    """KL(P || Q) of a clipped histogram P and the same without the clipped values, stored in INT8, Q."""
    unclipped = np.rint(centres / params.scale[0]) + params.zero_point[0]
    first, end = np.searchsorted(unclipped, (INT8_MIN, INT8_MAX + 1))
    inside = counts[first:end]
    if not inside.any():
        return np.inf if counts.any() else 0.0
    reference = inside.astype(np.float64)
    reference[0] += counts[:first].sum()
    reference[-1] += counts[end:].sum()
    occupied = reference > 0.0
    kept, reference = inside[occupied], reference[occupied]
    level = (unclipped[first:end][occupied] - INT8_MIN).astype(np.int64)
    spread = np.bincount(level, kept, LEVELS + 1) / np.maximum(np.bincount(level, minlength=LEVELS + 1), 1.0)
    p, q = reference / reference.sum(), spread / kept.sum()
    # A bin that only clipped values fill has no model at all: it counts as one observation.
    return float((p * np.log(p / np.maximum(q, 1.0 / reference.sum())[level])).sum())


def _histogram(statistics: TensorStatistics, weights: Weights) -> tuple[NDArray[np.float64], Weights]:
    """Edges [n + 1] and weights [n] of the occupied part of a histogram in the tensor's bins."""
    occupied = np.flatnonzero(weights)
    first, last = int(occupied[0]), int(occupied[-1])
    edges = ((np.arange(first, last + 2) - BINS) * 2.0**statistics.exponent).astype(np.float64)
    return edges, weights[first : last + 1]


def _coarse(edges: NDArray[np.float64], counts: Weights) -> tuple[NDArray[np.float64], Weights]:
    """Neighbouring bins added up until few enough for a search; still several for one INT8 step."""
    group = -(-len(counts) // _MOST_BINS)
    starts = np.arange(0, len(counts), group)
    width = float(edges[1] - edges[0]) * group
    wide = (float(edges[0]) + width * np.arange(len(starts) + 1)).astype(np.float64)
    return wide, np.add.reduceat(counts, starts)


def _mean_squares(edges: NDArray[np.float64], cube: Cube, grid: QuantParams) -> NDArray[np.float64]:
    """Mean squared error of rounding to a grid, in squared steps, in each bin of a histogram with edges [n + 1]."""
    (scale,), (zero_point,) = grid.scale, grid.zero_point
    position = edges / scale  # in steps from zero
    nearest = np.rint(np.clip(position, INT8_MIN - zero_point, INT8_MAX - zero_point))
    # Antiderivative of the squared distance to the stored value: 1/12 a whole step, a cube within it and outside.
    integral = nearest / 12.0 + cube(position - nearest) / 3.0
    with np.errstate(invalid="ignore"):  # a scale beyond float16, refused by name when the table is made
        means: NDArray[np.float64] = (integral[1:] - integral[:-1]) / (position[1:] - position[:-1])
    return means


def _product(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values * values * values


def _power(values: NDArray[np.float64]) -> NDArray[np.float64]:
    cubes: NDArray[np.float64] = values**3
    return cubes


# One function for each of `statistic_names.NAMED`.
_RANGES: dict[str, Callable[[TensorStatistics], Range]] = {
    "min-max": _min_max,
    "mean-min-max": _mean_min_max,
    "entropy": _entropy,
    "mse": _mse,
}
