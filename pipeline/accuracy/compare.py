"""How far artifacts are apart: in their logits, and tensor by tensor from the image on.

Differences are counted in quantization steps, the distance of neighbouring integers of a tensor. No number here is
infinite or NaN: what has no value is `NotMeasured`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from rexnet_export.pipeline.artifact.target import Session
from rexnet_export.pipeline.core.errors import ConversionError, DataError
from rexnet_export.pipeline.core.records import AtLeastOne, Fraction, Measurement, NotMeasured, NotNegative, Text
from rexnet_export.quantization.table.params import QuantParams

type Logits = NDArray[np.float32]
type Trace = Mapping[str, NDArray[np.float32]]

STEPS = (1, 2, 3)
ROUNDING = 1e-3  # of a step: what float32 makes of a whole number of steps
UNLABELLED = NotMeasured(reason="the images have no labels")
EQUAL = NotMeasured(reason="no value differs, so there is no noise to measure")
SILENT = NotMeasured(reason="the reference is zero throughout")
NO_GRID = NotMeasured(reason="the tensor is not quantized")
LOGARITHMS = NotMeasured(reason="a file gives probabilities alone, so all are compared by their logarithm")


@dataclass(frozen=True, kw_only=True)
class Steps:
    """Differences in quantization steps: the largest, and the share of values at most 1, 2 and 3 steps apart."""

    largest: NotNegative
    within: tuple[Fraction, Fraction, Fraction]


@dataclass(frozen=True, kw_only=True)
class LogitDifference:
    """Two artifacts on the same images; `agreement` is the share of images with the same top-1."""

    names: tuple[Text, Text]
    agreement: Fraction
    largest: NotNegative
    steps: Measurement[Steps]


@dataclass(frozen=True, kw_only=True)
class LogitComparison:
    """Top-1 accuracy of every artifact on the same `n` images, and every pair of them."""

    n: AtLeastOne
    top1: Mapping[str, Measurement[Fraction]]
    pairs: tuple[LogitDifference, ...]


@dataclass(frozen=True, kw_only=True)
class TensorDifference:
    """One tensor in two artifacts, over all images: `largest` in its own unit, SQNR with the first as signal.

    `equal` is the share of values that are the same integer, a float value rounded to the tensor's grid.
    """

    name: Text
    values: AtLeastOne
    largest: NotNegative
    sqnr_db: Measurement[float]
    equal: Measurement[Fraction]
    steps: Measurement[Steps]


@dataclass(frozen=True, kw_only=True)
class TraceComparison:
    """Every tensor two artifacts both have, in the first one's order, and those that only one has (the other fused)."""

    images: AtLeastOne
    tensors: tuple[TensorDifference, ...]
    unmatched: tuple[Text, ...]


@dataclass(frozen=True, kw_only=True)
class Loss:
    """Where SQNR falls the most: from `source_db`, that of the worst input, to `sqnr_db` of the tensor itself."""

    name: Text
    source: Text
    source_db: float
    sqnr_db: float


def compare_logits(
    logits: Mapping[str, Logits], labels: NDArray[np.int64] | None, scale: Measurement[float]
) -> LogitComparison:
    """Compare the logits [n, classes] of artifacts pair by pair, in steps of `scale` where they have one."""
    shapes = {name: values.shape for name, values in logits.items()}
    if len(set(shapes.values())) != 1:
        raise DataError(f"logits must be of the same images and classes, not {shapes}")
    return LogitComparison(
        n=next(iter(shapes.values()))[0],
        top1={
            name: UNLABELLED if labels is None else float((values.argmax(1) == labels).mean())
            for name, values in logits.items()
        },
        pairs=tuple(_logit_difference((a, b), logits[a], logits[b], scale) for a, b in combinations(logits, 2)),
    )


def _logit_difference(names: tuple[str, str], one: Logits, other: Logits, scale: Measurement[float]) -> LogitDifference:
    apart = _distance(one, other, " or ".join(names))
    return LogitDifference(
        names=names,
        agreement=float((one.argmax(1) == other.argmax(1)).mean()),
        largest=float(apart.max()),
        steps=scale if isinstance(scale, NotMeasured) else _Steps(scale).add(apart).summary(),
    )


def compare_traces(
    sessions: Mapping[str, Session],
    pairs: Sequence[tuple[str, str]],
    images: Iterable[NDArray[np.uint8]],
    grids: Mapping[str, QuantParams],
) -> dict[tuple[str, str], TraceComparison]:
    """Trace every session once per image and compare pairs, the first of each as reference; one image is held at once.

    `grids` are the parameters of activations by tensor name; tensors without are compared as real numbers alone.
    """
    comparisons = {pair: TensorComparison(grids) for pair in pairs}
    for batch in images:
        for image in batch:
            traces = {name: session.trace(image[None]) for name, session in sessions.items()}
            for (one, other), comparison in comparisons.items():
                comparison.add(traces[one], traces[other])
    return {pair: comparison.result() for pair, comparison in comparisons.items()}


class TensorComparison:
    """Sums over the images seen so far, never the traces themselves."""

    def __init__(self, grids: Mapping[str, QuantParams]) -> None:
        self._grids = grids
        self._images = 0
        self._totals: dict[str, _Total] = {}
        self._unmatched: dict[str, None] = {}

    def add(self, reference: Trace, candidate: Trace) -> None:
        """Count the traces of some more images."""
        if not reference.keys() & candidate.keys():
            raise ConversionError("the two traces have no tensor in common; they are not of the same network")
        self._images += len(next(iter(reference.values())))
        self._unmatched |= dict.fromkeys([*reference, *candidate])
        for name in reference:
            if name in candidate:
                total = self._totals.setdefault(name, _Total(self._grids.get(name)))
                total.add(name, reference[name], candidate[name])

    def result(self) -> TraceComparison:
        """What was found so far, in the order of the reference's tensors."""
        return TraceComparison(
            images=self._images,
            tensors=tuple(total.difference(name) for name, total in self._totals.items()),
            unmatched=tuple(name for name in self._unmatched if name not in self._totals),
        )


def worst_first(tensors: Sequence[TensorDifference]) -> tuple[TensorDifference, ...]:
    """By SQNR, the lowest first; those without noise or signal come last."""
    return tuple(sorted(tensors, key=lambda t: math.inf if isinstance(t.sqnr_db, NotMeasured) else t.sqnr_db))


def first_difference(tensors: Sequence[TensorDifference], beyond: int = 0) -> TensorDifference | None:
    """The first tensor with a value more than `beyond` steps apart; without a grid, any difference is beyond 0."""
    return next((tensor for tensor in tensors if _apart(tensor) > beyond), None)


def _apart(tensor: TensorDifference) -> float:
    if isinstance(tensor.steps, NotMeasured):
        return ROUNDING if tensor.largest > 0 else 0.0
    return tensor.steps.largest


def where_loss_starts(tensors: Sequence[TensorDifference], inputs: Mapping[str, Sequence[str]]) -> Measurement[Loss]:
    """The tensor whose SQNR lies furthest below that of its worst input, which `inputs` names (see `float_trace`).

    An input that an artifact fused away is replaced by its own inputs. One without noise (the image) has no SQNR to
    fall from: what quantizing its first reader costs is that tensor's own figure.
    """
    levels = {tensor.name: tensor.sqnr_db for tensor in tensors if not isinstance(tensor.sqnr_db, NotMeasured)}
    compared = {tensor.name for tensor in tensors}
    losses = []
    for name, level in levels.items():
        sources = [source for source in _sources(name, inputs, compared) if source in levels]
        if sources:
            source = min(sources, key=levels.__getitem__)
            losses.append(Loss(name=name, source=source, source_db=levels[source], sqnr_db=level))
    if not losses:
        return NotMeasured(reason="no two tensors that follow each other both have noise")
    return max(losses, key=lambda loss: loss.source_db - loss.sqnr_db)


def _sources(name: str, inputs: Mapping[str, Sequence[str]], compared: set[str]) -> Iterator[str]:
    for source in inputs.get(name, ()):
        if source in compared:
            yield source
        else:
            yield from _sources(source, inputs, compared)


@dataclass(kw_only=False)
class _Steps:
    """Running counts of distances in steps of `scale`."""

    scale: float
    values: int = 0
    largest: float = 0.0
    within: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(STEPS), np.int64))

    def add(self, apart: NDArray[np.float64]) -> _Steps:
        """Count some more distances, which are in the tensor's own unit."""
        steps = apart / self.scale
        self.values += steps.size
        self.largest = max(self.largest, float(steps.max()))
        self.within += [np.count_nonzero(steps <= limit + ROUNDING) for limit in STEPS]
        return self

    def summary(self) -> Steps:
        """Largest distance and shares; a whole number of steps up to float32's rounding is that number."""
        nearest = round(self.largest)
        one, two, three = (int(count) / self.values for count in self.within)
        whole = abs(self.largest - nearest) < ROUNDING
        return Steps(largest=float(nearest) if whole else self.largest, within=(one, two, three))


class _Total:
    """Sums of one tensor."""

    def __init__(self, grid: QuantParams | None) -> None:
        self._grid = grid
        self._steps = None if grid is None else _Steps(grid.scale[0])
        self._values, self._equal = 0, 0
        self._largest, self._signal, self._noise = 0.0, 0.0, 0.0

    def add(self, name: str, reference: NDArray[np.float32], candidate: NDArray[np.float32]) -> None:
        if reference.shape != candidate.shape:
            raise ConversionError(
                f"{name} is {[*reference.shape]} in one artifact and {[*candidate.shape]} in the other; "
                "they are not of the same network"
            )
        apart = _distance(reference, candidate, name)
        self._values += apart.size
        self._largest = max(self._largest, float(apart.max()))
        self._signal += float(np.square(reference, dtype=np.float64).sum())
        self._noise += float(np.square(apart).sum())
        if self._steps is not None and self._grid is not None:
            self._steps.add(apart)
            same = self._grid.quantize(reference) == self._grid.quantize(candidate)
            self._equal += int(np.count_nonzero(same))

    def difference(self, name: str) -> TensorDifference:
        return TensorDifference(
            name=name,
            values=self._values,
            largest=self._largest,
            sqnr_db=self._sqnr_db(),
            equal=NO_GRID if self._steps is None else self._equal / self._values,
            steps=NO_GRID if self._steps is None else self._steps.summary(),
        )

    def _sqnr_db(self) -> Measurement[float]:
        if self._noise == 0:
            return EQUAL
        return 10 * math.log10(self._signal / self._noise) if self._signal else SILENT


def _distance(one: NDArray[np.float32], other: NDArray[np.float32], name: str) -> NDArray[np.float64]:
    apart: NDArray[np.float64] = np.abs(one.astype(np.float64) - other)
    if not np.isfinite(apart).all():
        raise ConversionError(f"{name} has values that are not finite; use another checkpoint")
    return apart
