"""Calibration: what values every tensor takes over many images, in memory that does not grow with them.

Every number kept merges exactly, so neither the order of the images nor their grouping into batches changes it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import accumulate
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from rexnet_export.pipeline.core.errors import ConversionError, first_line
from rexnet_export.pipeline.machine.onnx_session import open_session, session_options
from rexnet_export.quantization.calibration.sigmoid_limits import Span, spans
from rexnet_export.quantization.onnx.simulate import groups, threads, workers
from rexnet_export.quantization.onnx.view import view

BINS = 4096
SAMPLES = 4096
SMALLEST_EXPONENT = -160  # at which float32's smallest number fills the histogram
FINEST_EXPONENT = -100  # of bins that are told apart in float32
SMALLEST = 149  # 2**-149 is float32's smallest number
SHORT_ROW = 64


type Runner = Callable[[NDArray[np.uint8]], list[NDArray[np.float32]]]


@dataclass(frozen=True, kw_only=True)
class TensorStatistics:
    """What a tensor was over `images` images.

    `channel_minima` and `channel_maxima` [C] are exact, as are the extremes of all channels together.
    `counts` [2 * BINS] is a histogram of a strided sample; bin i covers [(i - BINS), (i - BINS + 1)) * 2^exponent.
    """

    images: int
    minimum: float
    maximum: float
    sum_of_minima: Fraction
    sum_of_maxima: Fraction
    channel_minima: NDArray[np.float32]
    channel_maxima: NDArray[np.float32]
    exponent: int
    counts: NDArray[np.int64]

    @property
    def mean_minimum(self) -> float:
        """Average over images of the smallest value."""
        return float(self.sum_of_minima / self.images)

    @property
    def mean_maximum(self) -> float:
        """Average over images of the largest value."""
        return float(self.sum_of_maxima / self.images)


def observe(
    model: Path, batches: Iterable[NDArray[np.uint8]], tensors: Sequence[str], ids: Sequence[str] = ()
) -> dict[str, TensorStatistics]:
    """Run uint8 [n, S, S, 3] batches through a float model and gather statistics of the named tensors.

    Values beyond what INT8 can tell apart (see `sigmoid`) count as the last that it can.
    `ids` names the images in errors; without them they are numbered from 0.
    """
    proto = onnx.load(model)
    useful = spans(view(proto))
    observe_piece = partial(_observe_piece, _runner(proto, model, tensors), useful, tensors, ids)
    totals: dict[str, TensorStatistics] = {}
    images = 0
    with threads() as pool:
        for batch in batches:
            pieces = np.array_split(batch, min(len(batch), workers()))
            firsts = accumulate(map(len, pieces), initial=images)
            for found in pool.map(observe_piece, pieces, firsts):
                totals = {name: merge(totals[name], found[name]) for name in tensors} if totals else found
            images += len(batch)
    if not images:
        raise ConversionError("calibration got no images; give a folder with at least one")
    return totals


def _runner(proto: onnx.ModelProto, model: Path, tensors: Sequence[str]) -> Runner:
    known = {name for node in proto.graph.node for name in node.output}
    if missing := [name for name in tensors if name not in known]:
        raise ConversionError(f"{model} has no tensor {missing[0]!r} to observe; take the names from this model")
    del proto.graph.output[:]
    proto.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in tensors)
    session = open_session(proto.SerializeToString(), f"{model} for calibration", session_options())
    source = session.get_inputs()[0].name

    def run(images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        values: list[NDArray[np.float32]] = session.run(list(tensors), {source: images})
        return values

    return run


def _observe_piece(
    run: Runner,
    useful: Mapping[str, Span],
    tensors: Sequence[str],
    ids: Sequence[str],
    images: NDArray[np.uint8],
    first: int,
) -> dict[str, TensorStatistics]:
    """Statistics of the images from number `first` on, with one group's activations in memory at a time."""
    found: dict[str, list[Kept]] = {name: [] for name in tensors}
    for group in groups(images):
        try:
            values = run(group)
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            raise ConversionError(f"calibration image {_id(ids, first)} does not run: {first_line(error)}") from error
        for name, value in zip(tensors, values, strict=True):
            kept = _kept(value)
            finite = (np.isfinite(kept.lows) & np.isfinite(kept.highs)).all(axis=1)
            if not finite.all():
                image = _id(ids, first + int(np.argmin(finite)))
                raise ConversionError(
                    f"tensor {name} is NaN or infinite on calibration image {image}; check the weights"
                )
            found[name].append(kept)
        first += len(group)
    return {name: _summarise(parts, useful.get(name)) for name, parts in found.items()}


def _id(ids: Sequence[str], index: int) -> str:
    return ids[index] if ids else str(index)


@dataclass(frozen=True, kw_only=True)
class Kept:
    """Of a tensor for n images: exact extremes [n, C], NaN where a value is, and a sample of the values [n, m]."""

    lows: NDArray[np.float32]
    highs: NDArray[np.float32]
    sample: NDArray[np.float32]


def _kept(values: NDArray[np.float32]) -> Kept:
    """What statistics need of a tensor [n, C, ...]."""
    rows = values.reshape(*values.shape[:2], -1)
    # numpy's reductions begin anew for each row, which takes longer than moving all of a short one.
    short = rows.shape[2] <= SHORT_ROW
    lines, axis = (np.ascontiguousarray(np.moveaxis(rows, 2, 0)), 0) if short else (rows, 2)
    flat = values.reshape(len(values), -1)
    sample = flat[:, :: _stride(flat.shape[1])].copy()  # a view would keep all of the tensor in memory
    return Kept(lows=lines.min(axis=axis), highs=lines.max(axis=axis), sample=sample)


def _summarise(parts: Sequence[Kept], useful: Span | None = None) -> TensorStatistics:
    """Of a finite tensor: exact extremes, a histogram of the samples; values beyond `useful` count as its ends."""
    channel_lows, channel_highs, sample = (
        values if useful is None else np.clip(values, *useful)
        for values in (np.concatenate([getattr(part, name) for part in parts]) for name in ("lows", "highs", "sample"))
    )
    lows, highs = channel_lows.min(axis=1), channel_highs.max(axis=1)
    exponent = _exponent(max(-float(lows.min()), float(highs.max())))
    return TensorStatistics(
        images=len(lows),
        minimum=float(lows.min()),
        maximum=float(highs.max()),
        sum_of_minima=_sum(lows),
        sum_of_maxima=_sum(highs),
        channel_minima=channel_lows.min(axis=0),
        channel_maxima=channel_highs.max(axis=0),
        exponent=exponent,
        counts=np.bincount(bins_of(sample.ravel(), exponent), minlength=2 * BINS),
    )


def _sum(values: NDArray[np.float32]) -> Fraction:
    """Exact: in units of float32's smallest number all are integers."""
    return Fraction(sum(map(int, (values.astype(np.float64) * 2.0**SMALLEST).tolist())), 2**SMALLEST)


def bins_of(values: NDArray[np.float32], exponent: int) -> NDArray[np.int64]:
    """The bin of a histogram with this exponent that each of the values [n] is in; the first or last if beyond."""
    # A power of two changes no digit in float32 either, but that an all but dead tensor's is beyond its range.
    exact = np.dtype(np.float32 if FINEST_EXPONENT <= exponent <= 0 else np.float64)
    with np.errstate(over="ignore"):  # what is beyond the last bin may be far beyond
        steps = values.astype(exact, copy=False) * exact.type(2.0**-exponent)
    np.floor(steps, out=steps)
    np.clip(steps, -BINS, BINS - 1, out=steps)
    steps += exact.type(BINS)
    bins: NDArray[np.int64] = steps.astype(np.int64)
    return bins


def _stride(size: int) -> int:
    # Without a common factor the stride visits every row, column and channel alike.
    stride = -(-size // SAMPLES)
    while math.gcd(stride, size) > 1:
        stride += 1
    return stride


def _exponent(magnitude: float) -> int:
    """Of the narrowest power-of-two bin for which BINS bins reach past `magnitude`."""
    return math.frexp(magnitude)[1] - int(math.log2(BINS)) if magnitude else SMALLEST_EXPONENT


def merge(one: TensorStatistics, other: TensorStatistics) -> TensorStatistics:
    """Statistics of both sets of images; exact, so commutative and associative."""
    exponent = max(one.exponent, other.exponent)
    return TensorStatistics(
        images=one.images + other.images,
        minimum=min(one.minimum, other.minimum),
        maximum=max(one.maximum, other.maximum),
        sum_of_minima=one.sum_of_minima + other.sum_of_minima,
        sum_of_maxima=one.sum_of_maxima + other.sum_of_maxima,
        channel_minima=np.minimum(one.channel_minima, other.channel_minima),
        channel_maxima=np.maximum(one.channel_maxima, other.channel_maxima),
        exponent=exponent,
        counts=_widened(one, exponent) + _widened(other, exponent),
    )


def _widened(statistics: TensorStatistics, exponent: int) -> NDArray[np.int64]:
    """Counts in bins of 2^exponent: every doubling adds neighbours pairwise, floor(floor(x) / 2) = floor(x / 2)."""
    counts = statistics.counts
    doublings = exponent - statistics.exponent
    if not doublings:
        return counts
    bins = np.floor(np.ldexp(np.arange(-BINS, BINS, dtype=np.float64), -doublings)).astype(np.int64)
    wide = np.zeros_like(counts)
    np.add.at(wide, bins + BINS, counts)
    return wide
