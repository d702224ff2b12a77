"""The search for a good quantization: a draft that one step after another improves, judged by images not observed.

    float graph, statistics -> draft -> equalized -> grouped -> ranged -> corrected -> table

A step proposes; the judge compares the logits of the draft and of the proposal with the float network's, and the draft
stays as it was unless the proposal is better. Everything tried is kept for the report.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
from numpy.typing import NDArray

from rexnet_export.quantization.calibration.observe import TensorStatistics
from rexnet_export.quantization.calibration.ranges import ranged
from rexnet_export.quantization.calibration.slopes import Slopes
from rexnet_export.quantization.onnx.simulate import Score, Simulator
from rexnet_export.quantization.rewrites.rewrite import apply
from rexnet_export.quantization.scheme.insert_qdq import insert_qdq
from rexnet_export.quantization.scheme.scheme import decide
from rexnet_export.quantization.search.bias_correction import choose_correction
from rexnet_export.quantization.search.choose_groups import Cut, choose_groups
from rexnet_export.quantization.search.choose_ranges import better, choose_ranges
from rexnet_export.quantization.search.equalize import equalize
from rexnet_export.quantization.table.rewrites import Rewrite
from rexnet_export.quantization.table.table import Calibration, QuantTable

type Observe = Callable[[onnx.ModelProto], Mapping[str, TensorStatistics]]
type Measure = Callable[[onnx.ModelProto, Mapping[str, TensorStatistics]], Mapping[str, Slopes]]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What was tried, how the logits of held-back images fared with it, and whether it was kept."""

    name: str
    score: Score
    kept: bool


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a search works with: how a graph is observed, images [n, S, S, 3] to correct on, and the judge's own.

    `slopes` measures the logits' slopes at what was observed; `plain` is the statistic of ranges that no step has
    chosen.
    """

    observe: Observe
    slopes: Measure
    sample: NDArray[np.uint8]
    judge: Simulator
    calibration: Calibration
    plain: str


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A float graph as rewritten so far, what was observed of it, its table, and how that was judged.

    `original` is what was observed before anything was rewritten; `slopes` are there once a step has measured them.
    """

    model: onnx.ModelProto
    original: Mapping[str, TensorStatistics]
    statistics: Mapping[str, TensorStatistics]
    table: QuantTable
    score: Score
    slopes: Mapping[str, Slopes] | None = None
    trials: tuple[Trial, ...] = ()
    cuts: tuple[Cut, ...] = ()


type Step = Callable[[Draft, Evidence], Draft]


def search(model: onnx.ModelProto, evidence: Evidence, steps: Sequence[Step], say: Callable[[str], None]) -> Draft:
    """Start from plain ranges and take the steps in turn; `say` is told what begins."""
    say("plain")
    draft = _drafted(model, (), evidence)
    draft = replace(draft, trials=(Trial(name="plain", score=draft.score, kept=True),))
    for step in steps:
        say(step.__name__)
        draft = step(draft, evidence)
    return draft


def predicted(
    model: onnx.ModelProto, observe: Observe, calibration: Calibration
) -> tuple[onnx.ModelProto, Mapping[str, TensorStatistics], QuantTable]:
    """Without a judge: even out channels where less noise is predicted, and take the calibration's own statistic."""
    statistics = observe(model)
    scalings = equalize(model, statistics)
    if scalings:
        model = apply(model, scalings)
        statistics = observe(model)
    return model, statistics, replace(decide(model, statistics, calibration), rewrites=scalings)


def equalized(draft: Draft, evidence: Evidence) -> Draft:
    """Even out channels by exact scaling where less noise is predicted; see `equalize`."""
    scalings = equalize(draft.model, draft.statistics)
    return _rewritten(draft, scalings, evidence, "equalized") if scalings else draft


def grouped(draft: Draft, evidence: Evidence) -> Draft:
    """Give groups of channels scales of their own where that is worth its time; see `choose_groups`."""
    slopes = evidence.slopes(draft.model, draft.statistics)
    found = choose_groups(draft.model, draft.statistics, slopes, draft.table, evidence.judge)
    draft = replace(draft, slopes=slopes, cuts=found.measured)
    if not found.rewrites:
        return draft
    after = _rewritten(draft, found.rewrites, evidence, "grouped")
    if after.trials[-1].kept:
        return after
    return replace(after, cuts=tuple(replace(cut, kept=cut.rewrite is None) for cut in after.cuts))


def ranges_chosen(draft: Draft, evidence: Evidence) -> Draft:
    """Choose every tensor's range; see `choose_ranges`."""
    slopes = evidence.slopes(draft.model, draft.statistics) if draft.slopes is None else draft.slopes
    found = choose_ranges(draft.model, draft.statistics, slopes, evidence.judge, evidence.calibration)
    tried = [Trial(name=f"ranges: {each.name}", score=each.score, kept=False) for each in found.trials]
    draft = replace(draft, trials=(*draft.trials, *tried))
    table = decide(draft.model, draft.statistics, evidence.calibration, found.ranges)
    proposal = replace(draft, table=replace(table, rewrites=draft.table.rewrites), score=found.score)
    return _decided(draft, proposal, len(evidence.judge.images), "ranges chosen")


def corrected(draft: Draft, evidence: Evidence) -> Draft:
    """Correct biases where that helps; see `choose_correction`."""
    found = choose_correction(draft.model, draft.table, evidence.sample, evidence.judge)
    proposal = replace(draft, table=found.table, score=found.score)
    return _decided(draft, proposal, len(evidence.judge.images), f"biases: {found.best}")


def judged(draft: Draft, table: QuantTable, judge: Simulator, name: str) -> Draft:
    """The draft with another table of its graph, if the judge finds that better."""
    score = judge.score(insert_qdq(draft.model, table, "uint8"))
    return _decided(draft, replace(draft, table=table, score=score), len(judge.images), name)


def _drafted(model: onnx.ModelProto, rewrites: tuple[Rewrite, ...], evidence: Evidence) -> Draft:
    """A graph with plain ranges."""
    statistics = evidence.observe(model)
    ranges = {name: ranged(found, evidence.plain) for name, found in statistics.items()}
    table = replace(decide(model, statistics, evidence.calibration, ranges), rewrites=rewrites)
    score = evidence.judge.score(insert_qdq(model, table, "uint8"))
    return Draft(model=model, original=statistics, statistics=statistics, table=table, score=score)


def _rewritten(draft: Draft, rewrites: Sequence[Rewrite], evidence: Evidence, name: str) -> Draft:
    """The draft with its graph rewritten, where the judge prefers that."""
    proposal = _drafted(apply(draft.model, rewrites), (*draft.table.rewrites, *rewrites), evidence)
    return _decided(draft, proposal, len(evidence.judge.images), name)


def _decided(draft: Draft, proposal: Draft, images: int, name: str) -> Draft:
    kept = better(proposal.score, draft.score, images)
    trials = (*draft.trials, Trial(name=name, score=proposal.score, kept=kept))
    return replace(proposal if kept else draft, original=draft.original, trials=trials, cuts=draft.cuts)
