"""Choosing which layers get grouped scales, and how many groups: by what each saves in the logits and what it costs.

The logits' noise adds up over tensors, so cuts are taken by noise saved per time added, while the decibels they gain
for the whole network are worth their time. An uncut layer costs nothing, and even channels stay uncut.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import onnx

from rexnet_export.quantization.calibration.observe import TensorStatistics
from rexnet_export.quantization.calibration.slopes import Slopes
from rexnet_export.quantization.onnx.simulate import Simulator
from rexnet_export.quantization.scheme.insert_qdq import insert_qdq
from rexnet_export.quantization.search.channel_groups import Layer, candidates, layers
from rexnet_export.quantization.table.rewrites import ChannelGrouping
from rexnet_export.quantization.table.table import QuantTable, TensorEntry

MOST_COST = 0.07  # estimated share of the network's time that all groups may add; a quarter more was measured
WORTH_DB = 0.3  # what one hundredth of the network's time must gain


@dataclass(frozen=True, kw_only=True)
class Cut:
    """One way to treat a layer: `noise` is the logits' mean squared error, as predicted, with only its tensors in INT8.

    `rewrite` is None for the uncut layer; `cost` is the time it adds as a share of the network's; `kept` says whether
    it is the way that was chosen.
    """

    layer: str
    rewrite: ChannelGrouping | None
    noise: float
    cost: float
    kept: bool = False


@dataclass(frozen=True, kw_only=True)
class Grouped:
    """The cuts to make, in graph order, and all that were measured."""

    rewrites: tuple[ChannelGrouping, ...]
    cost: float
    measured: tuple[Cut, ...]


def choose_groups(
    model: onnx.ModelProto,
    statistics: Mapping[str, TensorStatistics],
    slopes: Mapping[str, Slopes],
    table: QuantTable,
    judge: Simulator,
) -> Grouped:
    """Cuts for the layers of a float `model`, whose INT8 form without any is `table`."""
    found = tuple(layers(model, statistics, slopes))
    floating = {
        name: TensorEntry(decision="float", reason="measured without it") for layer in found for name in layer.cut
    }
    without = insert_qdq(model, replace(table, tensors={**table.tensors, **floating}), "uint8")
    others = np.square(judge.reference.astype(np.float64) - judge.logits(without)).mean()
    return best_cuts([cut for layer in found for cut in _ways(layer)], float(others))


def _ways(layer: Layer) -> Iterator[Cut]:
    """To treat a layer, the uncut one first."""
    yield Cut(layer=layer.tensor, rewrite=None, noise=layer.noise, cost=0.0)
    for way in candidates(layer):
        yield Cut(layer=layer.tensor, rewrite=way.rewrite, noise=way.noise, cost=way.cost)


def best_cuts(cuts: Sequence[Cut], others: float) -> Grouped:
    """The cuts worth their time, of those measured; `others` is the noise of all tensors that cuts do not change."""
    ways = {layer: list(of_layer) for layer, of_layer in groupby(cuts, key=lambda cut: cut.layer)}
    chosen = {layer: of_layer[0] for layer, of_layer in ways.items()}
    noise = others + sum(cut.noise for cut in chosen.values())
    paths = [chosen]
    while steps := [(cut, chosen[cut.layer]) for cut in cuts if _affordable(chosen, cut)]:
        step, _ = max(steps, key=lambda pair: (pair[1].noise - pair[0].noise) / (pair[0].cost - pair[1].cost))
        chosen = chosen | {step.layer: step}
        paths.append(chosen)

    def gained(path: Mapping[str, Cut]) -> float:
        left = others + sum(cut.noise for cut in path.values())
        return 10 * math.log10(noise / left) if left else math.inf

    best = max(paths, key=lambda path: gained(path) - WORTH_DB * 100 * _cost(path))
    return Grouped(
        rewrites=tuple(cut.rewrite for cut in best.values() if cut.rewrite),
        cost=_cost(best),
        measured=tuple(replace(cut, kept=best[cut.layer] is cut) for cut in cuts),
    )


def _cost(chosen: Mapping[str, Cut]) -> float:
    return sum(cut.cost for cut in chosen.values())


def _affordable(chosen: Mapping[str, Cut], cut: Cut) -> bool:
    now = chosen[cut.layer]
    return cut.noise < now.noise and cut.cost > now.cost and _cost(chosen) + cut.cost - now.cost <= MOST_COST
