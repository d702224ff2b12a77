"""Choosing every tensor's range on evidence: what its INT8 form does to the logits.

The ranges from which the slopes of the logits predict the least noise are compared with every statistic for all tensors
alike, by images that set no range. A few dozen judges have few of the outliers that thousands of images have, and
flatter whatever clips or keeps what they lack: a statistic has to be better by more than that.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import onnx

from rexnet_export.quantization.calibration.observe import TensorStatistics
from rexnet_export.quantization.calibration.ranges import ObservedRange, least_noise, ranged
from rexnet_export.quantization.calibration.slopes import Slopes
from rexnet_export.quantization.calibration.statistic_names import LEAST_NOISE
from rexnet_export.quantization.onnx.simulate import Score, Simulator
from rexnet_export.quantization.scheme.insert_qdq import QdqGraphs
from rexnet_export.quantization.scheme.scheme import decide
from rexnet_export.quantization.table.table import Calibration

STATISTICS = ("min-max", "percentile-99.999", "percentile-99.99", "percentile-99.9", "mean-min-max", "entropy", "mse")
DOUBT_DB = 2.0  # 42 judges called ranges 0.2 dB better, on a twin, that 10,000 images called 1.5 dB worse

type Ranges = Mapping[str, ObservedRange]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A whole choice that was simulated on all held-back images; `name` says how it was made."""

    name: str
    score: Score


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A range for every observed tensor, and what was tried on the way to it."""

    ranges: Ranges
    trials: tuple[Trial, ...]
    best: str

    @property
    def score(self) -> Score:
        """The best one's on all held-back images."""
        return score_of(self.best, self.trials)


def choose_ranges(
    model: onnx.ModelProto,
    statistics: Mapping[str, TensorStatistics],
    slopes: Mapping[str, Slopes],
    judge: Simulator,
    calibration: Calibration,
) -> Chosen:
    """A range for every observed tensor of a float `model`, judged by images that `statistics` has not seen."""
    tried = candidates(statistics, slopes)
    graphs = QdqGraphs(model)
    scores = {
        name: judge.score(graphs.of(decide(model, statistics, calibration, ranges), "uint8"))
        for name, ranges in tried.items()
    }
    doubted = {name: replace(scores[name], sqnr_db=scores[name].sqnr_db - DOUBT_DB) for name in STATISTICS}
    best = preferred({LEAST_NOISE: scores[LEAST_NOISE]} | doubted, len(judge.images))
    trials = tuple(Trial(name=name, score=score) for name, score in scores.items())
    return Chosen(ranges=tried[best], trials=trials, best=best)


def candidates(
    statistics: Mapping[str, TensorStatistics], slopes: Mapping[str, Slopes]
) -> dict[str, dict[str, ObservedRange]]:
    """By statistic, and for the least predicted noise: a range for every observed tensor."""
    found = {
        statistic: {name: ranged(seen, statistic) for name, seen in statistics.items()} for statistic in STATISTICS
    }
    return found | {LEAST_NOISE: {name: least_noise(seen, slopes[name]) for name, seen in statistics.items()}}


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
        return one.agreement > other.agreement
    return one.sqnr_db > other.sqnr_db


def preferred(scores: Mapping[str, Score], images: int) -> str:
    """Preferred over the ones before it; the first of equals."""
    names = list(scores)
    found = names[0]
    for name in names[1:]:
        if better(scores[name], scores[found], images):
            found = name
    return found
