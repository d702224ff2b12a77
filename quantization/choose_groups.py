"""Choosing which layers get grouped scales, and how many groups: by what each saves in the logits and what it costs.

Each layer's tensors are put in INT8 alone, the rest of the network in float, with a scale for every group that a cut
would make. The logits' noise adds up over layers, so cuts are taken by noise saved per time added, while the decibels
they gain for the whole network are worth their time. An uncut layer costs nothing, and even channels stay uncut.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from rexnet_export.quantization.choose import FEWEST_PROBES, PROBE_PIXELS
from rexnet_export.quantization.graph import view
from rexnet_export.quantization.grouping import cut_tensors
from rexnet_export.quantization.observe import TensorStatistics
from rexnet_export.quantization.partition import Candidate, candidates
from rexnet_export.quantization.qdq import insert_qdq
from rexnet_export.quantization.qparams import INT8_MAX, INT8_MIN, from_range
from rexnet_export.quantization.rewrites import ChannelGrouping
from rexnet_export.quantization.simulate import Logits, Simulator
from rexnet_export.quantization.table import QuantTable, TensorEntry
from rexnet_export.quantization.walk import Walk

MOST_COST = 0.09  # share of the network's time that all groups together may add
WORTH_DB = 0.5  # what one hundredth of the network's time must gain
NOTICEABLE = 0.5  # of the predicted noise: what a cut must save to be tried

type Groups = Sequence[NDArray[np.int64]]


@dataclass(frozen=True, kw_only=True)
class Cut:
    """One way to treat a layer: `noise` is the logits' mean squared error with only its tensors in INT8.

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
    predicted_db: float
    measured: tuple[Cut, ...]


def choose_groups(
    model: onnx.ModelProto, statistics: Mapping[str, TensorStatistics], table: QuantTable, judge: Simulator
) -> Grouped:
    """Cuts for the layers of a float `model`, whose INT8 form without any is `table`."""
    few = judge.within(PROBE_PIXELS, FEWEST_PROBES)
    cuts, tensors = _measured(model, statistics, few)
    floating = {name: TensorEntry(decision="float", reason="measured without it") for name in tensors}
    without = insert_qdq(model, replace(table, tensors={**table.tensors, **floating}), "uint8")
    return best_cuts(cuts, _power(few.reference, few.logits(without)))


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
        predicted_db=gained(best),
        measured=tuple(replace(cut, kept=best[cut.layer] is cut) for cut in cuts),
    )


def _cost(chosen: Mapping[str, Cut]) -> float:
    return sum(cut.cost for cut in chosen.values())


def _affordable(chosen: Mapping[str, Cut], cut: Cut) -> bool:
    now = chosen[cut.layer]
    return cut.noise < now.noise and cut.cost > now.cost and _cost(chosen) + cut.cost - now.cost <= MOST_COST


def _measured(
    model: onnx.ModelProto, statistics: Mapping[str, TensorStatistics], judge: Simulator
) -> tuple[tuple[Cut, ...], tuple[str, ...]]:
    """Layers in graph order, each uncut and then in every candidate's groups; and the tensors that they cut."""
    found: list[Cut] = []
    tensors: list[str] = []
    walk = Walk(model, judge.images)
    graph = view(walk.model)
    positions = {node.output[0]: index for index, node in enumerate(graph.nodes)}
    for layer, ways in groupby(candidates(walk.model, statistics), key=lambda way: way.rewrite.tensor):
        worthwhile = [way for way in ways if way.gain > NOTICEABLE * way.noise]
        if not worthwhile:
            continue
        walk.advance(positions[layer])
        pooled = {node.output[0] for node in graph.nodes if node.op_type == "GlobalAveragePool"}  # joined again
        cut = [name for name in cut_tensors(graph, layer) - pooled if name in statistics]
        tensors += cut
        whole = np.arange(len(statistics[layer].channel_minima))
        found.append(Cut(layer=layer, rewrite=None, noise=_noise(walk, judge, statistics, cut, [whole]), cost=0.0))
        for way in worthwhile:
            noise = _noise(walk, judge, statistics, cut, _members(way))
            found.append(Cut(layer=layer, rewrite=way.rewrite, noise=noise, cost=way.cost))
    return tuple(found), tuple(tensors)


def _members(way: Candidate) -> Groups:
    return np.split(np.asarray(way.rewrite.order), np.cumsum(way.rewrite.sizes)[:-1])


def _noise(
    walk: Walk,
    judge: Simulator,
    statistics: Mapping[str, TensorStatistics],
    tensors: Sequence[str],
    groups: Groups,
) -> float:
    """Mean squared error of the logits with `tensors` in INT8, a scale for each group of channels."""
    rest = walk.rest()
    for name in tensors:
        _quantize(rest, name, statistics[name], groups)
    return _power(judge.reference, walk.finish(rest)(walk.held))


def _power(reference: Logits, logits: Logits) -> float:
    return float(np.square(reference.astype(np.float64) - logits).mean())


def _quantize(model: onnx.ModelProto, name: str, statistics: TensorStatistics, groups: Groups) -> None:
    """Round a tensor [N, C, H, W] to INT8 by channel: every channel has the scale of its group.

    In float operators, since ONNX Runtime fuses quantized ones into kernels that know no scales by channel.
    """
    constants = np.empty((3, len(statistics.channel_minima), 1, 1), np.float32)  # scale, least and greatest step
    for channels in groups:
        low, high = statistics.channel_minima[channels].min(), statistics.channel_maxima[channels].max()
        params = from_range(float(low), float(high))
        steps = np.array([params.scale[0], INT8_MIN - params.zero_point[0], INT8_MAX - params.zero_point[0]])
        constants[:, channels] = steps.reshape(3, 1, 1, 1)
    for node in model.graph.node:
        node.input[:] = [f"{name}.dq" if source == name else source for source in node.input]
    scale, least, greatest = (f"{name}.{end}" for end in ("scale", "least", "greatest"))
    model.graph.initializer.extend(map(numpy_helper.from_array, constants, (scale, least, greatest)))
    at = next(index for index, node in enumerate(model.graph.node) if name in node.output) + 1
    source = name
    for op, extra in (("Div", [scale]), ("Round", []), ("Max", [least]), ("Min", [greatest]), ("Mul", [scale])):
        output = f"{name}.{op.lower()}" if op != "Mul" else f"{name}.dq"
        model.graph.node.insert(at, helper.make_node(op, [source, *extra], [output], output))
        source, at = output, at + 1
