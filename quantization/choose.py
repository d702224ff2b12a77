"""Choosing each tensor's statistic on evidence: by what its INT8 form does to the logits of images not observed.

First every statistic for all tensors alike. Then each tensor alone in INT8, the others in float: the logits' noise
adds up over tensors, so the least for each is nearly the least for all. Then the loudest are tried in the INT8 network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx
from numpy.typing import NDArray

from rexnet_export.quantization.observe import TensorStatistics
from rexnet_export.quantization.qdq import insert_qdq
from rexnet_export.quantization.qparams import QuantParams, from_range
from rexnet_export.quantization.ranges import ObservedRange, ranged
from rexnet_export.quantization.scheme import decide
from rexnet_export.quantization.simulate import Score, Simulator, sqnr_db
from rexnet_export.quantization.table import Calibration
from rexnet_export.quantization.walk import Walk

STATISTICS = ("min-max", "percentile-99.999", "percentile-99.99", "percentile-99.9", "mean-min-max", "entropy", "mse")
SEARCHED = "logit-mse"
LOUD_DB = 52.0  # alone: below it a tensor may be what limits the network, and its range is searched
STEPS = (np.geomspace(0.7, 1.3, 9), np.geomspace(0.95, 1.05, 6))  # factors on one end at a time, coarse, then fine
PROBE_PIXELS, FEWEST_PROBES = 2**18, 12  # images that each tensor is tried on alone: 64 at 64 px, 12 at 224
TRIAL_PIXELS, FEWEST_TRIALS = 2**19, 32  # images for one trial in the whole network: 128 at 64 px, 32 at 224
TRIALS = 48
ALTERNATIVES = 2
LEAST_GAIN_DB = 0.02

type Ranges = Mapping[str, ObservedRange]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The range one tensor got, and the logits' SQNR in dB with only this tensor in INT8, by statistic."""

    tensor: str
    range: ObservedRange
    alone_db: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A whole choice that was simulated on all held-back images; `name` is a statistic, `mixed` or `refined`."""

    name: str
    score: Score


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A range for every observed tensor, and what was tried on the way to it."""

    choices: tuple[Choice, ...]
    trials: tuple[Trial, ...]
    best: str

    @property
    def score(self) -> Score:
        """The best one's on all held-back images."""
        return score_of(self.best, self.trials)

    @property
    def ranges(self) -> dict[str, ObservedRange]:
        """What `decide` takes, by tensor."""
        return {choice.tensor: choice.range for choice in self.choices}


@dataclass(frozen=True, kw_only=True)
class _Alone:
    """One range of one tensor, and the logits' SQNR with only this tensor in INT8."""

    range: ObservedRange
    sqnr_db: float


def choose_ranges(
    model: onnx.ModelProto, statistics: Mapping[str, TensorStatistics], judge: Simulator, calibration: Calibration
) -> Chosen:
    """The statistic for every observed tensor, judged by images that `statistics` has not seen.

    The number of simulations is bounded and does not depend on the clock, so the same input gives the same choice.
    """

    def quantized(chosen: Ranges) -> onnx.ModelProto:
        return insert_qdq(model, decide(model, statistics, calibration, chosen), "uint8")

    alone = _alone(model, statistics, judge.within(PROBE_PIXELS, FEWEST_PROBES))
    candidates = {
        statistic: {name: tried[statistic].range for name, tried in alone.items()} for statistic in STATISTICS
    }
    candidates["mixed"] = {
        name: max(tried.values(), key=lambda one: one.sqnr_db).range for name, tried in alone.items()
    }
    scores = {name: judge.score(quantized(chosen)) for name, chosen in candidates.items()}
    start = preferred(scores, len(judge.images))
    few = judge.within(TRIAL_PIXELS, FEWEST_TRIALS)
    candidates["refined"] = _refined(candidates[start], alone, lambda chosen: few.score(quantized(chosen)))
    scores["refined"] = judge.score(quantized(candidates["refined"]))
    best = preferred({name: scores[name] for name in (start, "refined")}, len(judge.images))
    return Chosen(
        choices=tuple(
            Choice(tensor=name, range=found, alone_db={s: one.sqnr_db for s, one in alone[name].items()})
            for name, found in candidates[best].items()
        ),
        trials=tuple(Trial(name=name, score=score) for name, score in scores.items()),
        best=best,
    )


def score_of(name: str, trials: Iterable[Trial]) -> Score:
    """Of the trial with that name."""
    return next(trial.score for trial in trials if trial.name == name)


def better(one: Score, other: Score, images: int) -> bool:
    """Whether `one` is to be preferred: by agreement where it differs by more than chance, otherwise by SQNR.

    Chance is two standard deviations of a difference of counts, as if the images each gets wrong were independent.
    """
    difference = (one.agreement - other.agreement) * images
    wrong = (2.0 - one.agreement - other.agreement) * images
    if abs(difference) > 2.0 * math.sqrt(wrong):
        return difference > 0.0
    return one.sqnr_db > other.sqnr_db


def preferred(scores: Mapping[str, Score], images: int) -> str:
    """Preferred over the ones before it; the first of equals."""
    names = list(scores)
    found = names[0]
    for name in names[1:]:
        if better(scores[name], scores[found], images):
            found = name
    return found


def _alone(
    model: onnx.ModelProto, statistics: Mapping[str, TensorStatistics], judge: Simulator
) -> dict[str, dict[str, _Alone]]:
    """By tensor and statistic: the range, and how the logits fare with that tensor in INT8 and the rest in float."""
    walk = Walk(model, judge.images)
    found = {}
    for position, node in enumerate(model.graph.node):
        name = node.output[0]
        if name in statistics:
            walk.advance(position + 1)
            found[name] = _tried(statistics[name], _measure(name, walk, judge.reference))
    return found


def _measure(name: str, walk: Walk, reference: NDArray[np.float32]) -> Callable[[ObservedRange], _Alone]:
    """A function that puts the tensor just computed in INT8 and runs what is left of the float network."""
    finish = walk.finish(walk.rest())
    known: dict[QuantParams, float] = {}

    def measure(found: ObservedRange) -> _Alone:
        params = from_range(found.low, found.high)
        if params not in known:
            held = [group | {name: params.rounded(group[name])} for group in walk.held]
            known[params] = sqnr_db(reference, finish(held))
        return _Alone(range=found, sqnr_db=known[params])

    return measure


def _tried(statistics: TensorStatistics, measure: Callable[[ObservedRange], _Alone]) -> dict[str, _Alone]:
    tried = {statistic: measure(ranged(statistics, statistic)) for statistic in STATISTICS}
    best = max(tried.values(), key=lambda one: one.sqnr_db)
    if best.sqnr_db >= LOUD_DB:
        return tried
    for factors in STEPS:
        for ends in ("high", "low"):
            moved = (replace(best.range, **{ends: getattr(best.range, ends) * factor}) for factor in factors.tolist())
            within = (one for one in moved if statistics.minimum <= one.low and one.high <= statistics.maximum)
            best = max([best, *map(measure, within)], key=lambda one: one.sqnr_db)
    return tried | {SEARCHED: replace(best, range=replace(best.range, statistic=SEARCHED))}


def _refined(
    start: Ranges, alone: Mapping[str, Mapping[str, _Alone]], score: Callable[[Ranges], Score]
) -> dict[str, ObservedRange]:
    """Try other statistics for the loudest tensors in turn; keep those that raise SQNR without losing agreement."""
    chosen = dict(start)
    best = score(chosen)
    trials = 0
    for name in sorted(chosen, key=lambda tensor: alone[tensor][chosen[tensor].statistic].sqnr_db):
        others = [one.range for one in alone[name].values() if one.range != chosen[name]]
        others.sort(key=lambda one: -alone[name][one.statistic].sqnr_db)
        for other in others[:ALTERNATIVES]:
            if trials == TRIALS:
                return chosen
            trials += 1
            found = score(chosen | {name: other})
            if found.sqnr_db > best.sqnr_db + LEAST_GAIN_DB and found.agreement >= best.agreement:
                chosen[name], best = other, found
    return chosen
