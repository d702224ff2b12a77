"""Which channels of a layer share a scale: ways to cut it into groups, with what each way saves and what it costs.

A step of a tensor's scale is as wide as the group's range asks, and every channel of the group gets the rounding noise
of that step. What the noise does is known from the weights that follow: squared and summed, they carry noise power to
the node that reads all channels. With range r_c and squared gain g_c of each channel, the noise of a cut relative to
that of a scale for every channel (the least there can be) is

    F = sum over groups (range of the group)^2 * (sum of g_c in it) / sum over channels r_c^2 * g_c

and the best cut of ordered channels has the least F, summed over the tensors that are cut together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from rexnet_export.quantization.graph import GraphView, view
from rexnet_export.quantization.grouping import cut_tensors, dense_readers, is_channelwise, is_dense
from rexnet_export.quantization.observe import TensorStatistics
from rexnet_export.quantization.rewrites import ChannelGrouping

GROUPS = (2, 3, 4)
MULTIPLE = 16  # kernels take 16 channels at once, and narrower groups waste them: see the stem in docs/benchmarks.md
# How long an operator and a value read take, in multiply-accumulates of INT8: see docs/benchmarks.md.
OPERATOR = 100_000.0
ELEMENT = 10.0
REFERENCE_SIZE = 224  # what a cut costs in smaller images, where an operator's start takes longer than its work, is
# counted as in this one: hard networks would otherwise be left to fail for the sake of microseconds
_CLAMPS = frozenset({"Clip", "Relu"})  # part of the operator before them
_SIGMOID = 0.5  # what a gate (before a convolution rescales it) or the sigmoid of SiLU is taken to multiply by

type Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A cut of one layer: `noise` is F of the module's docstring after it, `gain` what it is lower than without it.

    `cost` is the time it adds, estimated as a share of the whole network's.
    """

    rewrite: ChannelGrouping
    noise: float
    gain: float
    cost: float


@dataclass(frozen=True, kw_only=True)
class Layer:
    """What is cut with one convolution's output: of each tensor and channel the ends of its range and its gain.

    `lows`, `highs` and `squared_gains` are [tensors, channels]. `operators` is how many are written once a group,
    `joins` how many put groups together again, `read` how many values the convolution reads for each group; `network`
    is the time of all.
    """

    tensor: str
    lows: Floats
    highs: Floats
    squared_gains: Floats
    operators: int
    joins: int
    read: float
    network: float

    @property
    def ranges(self) -> Floats:
        """Of each tensor and channel, widened to contain zero; never zero."""
        widened: Floats = np.maximum(self.highs, 0.0) - np.minimum(self.lows, 0.0)
        return np.maximum(widened, np.finfo(np.float32).tiny)

    def cost(self, groups: int) -> float:
        """Added time as a share of the network's."""
        once_a_group = self.operators * OPERATOR + self.read * ELEMENT
        return ((groups - 1) * once_a_group + self.joins * OPERATOR) / self.network


def candidates(
    model: onnx.ModelProto,
    statistics: Mapping[str, TensorStatistics],
    counts: Sequence[int] = GROUPS,
    multiple: int = MULTIPLE,
) -> tuple[Candidate, ...]:
    """The best cut of every layer before a SiLU into each number of groups, layers in graph order."""
    return tuple(
        candidate
        for layer in layers(model, statistics)
        for count in counts
        if (candidate := best_cut(layer, count, multiple)) is not None
    )


def layers(model: onnx.ModelProto, statistics: Mapping[str, TensorStatistics]) -> Iterator[Layer]:
    """Every convolution that only SiLU reads, with the observed tensors that are cut with it."""
    graph = view(model)
    sizes = {
        value.name: [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
        for value in model.graph.value_info
    }
    image = next(iter(model.graph.input)).type.tensor_type.shape.dim[1].dim_value
    growth = max(1.0, (REFERENCE_SIZE / image) ** 2)
    network = _duration(graph, sizes, growth)
    for node in graph.nodes:
        readers = {reader.op_type for reader in graph.consumers.get(node.output[0], ())}
        if is_dense(node) and readers == {"Sigmoid", "Mul"}:
            cut = cut_tensors(graph, node.output[0])
            joined = [name for name in cut if any(not is_channelwise(to, graph) for to in graph.consumers[name])]
            gains = _squared_gains(graph, cut, sizes)
            seen = {name: statistics[name] for name in gains if name in statistics}
            yield Layer(
                tensor=node.output[0],
                lows=np.stack([found.channel_minima for found in seen.values()]).astype(np.float64),
                highs=np.stack([found.channel_maxima for found in seen.values()]).astype(np.float64),
                squared_gains=np.stack([gains[name] for name in seen]),
                operators=sum(part.output[0] in cut and part.op_type not in _CLAMPS for part in graph.nodes),
                joins=len(joined),
                read=_products(node, graph, sizes, growth) / sizes[node.output[0]][1],
                network=network,
            )


def _duration(graph: GraphView, sizes: Mapping[str, Sequence[int]], growth: float) -> float:
    """Of all operators, in multiply-accumulates, with `growth` times as many positions."""
    total = 0.0
    for node in graph.nodes:
        if node.op_type in {"Conv", "Gemm"}:
            total += _products(node, graph, sizes, growth)
        total += OPERATOR * (node.op_type not in _CLAMPS)
    return float(total)


def _products(node: onnx.NodeProto, graph: GraphView, sizes: Mapping[str, Sequence[int]], growth: float) -> float:
    """Multiply-accumulates of a convolution or of the classifier; one position of a vector or pooled tensor is all."""
    positions = float(np.prod(sizes.get(node.output[0], ())[2:]))
    return float(graph.constant(node, 1).size) * positions * (growth if positions > 1 else 1.0)


def _squared_gains(graph: GraphView, cut: frozenset[str], sizes: Mapping[str, Sequence[int]]) -> dict[str, Floats]:
    """By tensor and channel, the noise power that one unit of it makes in what reads all channels last.

    Tensors whose scale is not their group's own are left out: pooled ones, which are joined.
    """
    last = max(
        (node for node in graph.nodes if set(node.input) & cut and not is_channelwise(node, graph)),
        key=graph.nodes.index,
    )
    gains = {last.input[0]: np.sum([_column_powers(reader, graph) for reader in dense_readers(last, graph)], axis=0)}
    for node in reversed(graph.nodes):
        if node.output[0] not in gains or node.output[0] not in cut or is_dense(node):
            continue
        match node.op_type:
            case "Conv":
                factor = _row_powers(node, graph)
            case "Mul":
                rescaling = [
                    _row_powers(other, graph)
                    for other in graph.nodes
                    if other.output[0] == node.input[1] and other.op_type == "Conv"
                ]
                factor = _SIGMOID**2 * (rescaling[0] if rescaling else np.ones(()))
            case "GlobalAveragePool":
                factor = np.asarray(1 / np.prod(sizes[node.input[0]][2:]), np.float64)
            case _:
                factor = np.ones(())
        source = node.input[0]
        gains[source] = gains.get(source, 0.0) + gains[node.output[0]] * factor
    pooled = {node.output[0] for node in graph.nodes if node.op_type == "GlobalAveragePool"}
    return {name: gain for name, gain in gains.items() if name not in pooled}


def _row_powers(node: onnx.NodeProto, graph: GraphView) -> Floats:
    powers: Floats = np.square(graph.constant(node, 1).astype(np.float64)).sum(axis=(1, 2, 3))
    return powers


def _column_powers(node: onnx.NodeProto, graph: GraphView) -> Floats:
    weights = np.square(graph.constant(node, 1).astype(np.float64))
    powers: Floats = weights.sum(axis=(0, *range(2, weights.ndim)))
    return powers


def best_cut(layer: Layer, count: int, multiple: int) -> Candidate | None:
    """The least noise for channels in the order of a range; None where they are too few for groups of `multiple`."""
    channels = layer.lows.shape[1]
    edges = np.array([*range(0, channels - multiple + 1, multiple), channels])  # what is left over goes to the last
    if len(edges) <= count:
        return None
    found = []
    for order in _orders(layer):
        costs = _interval_costs(layer, order, edges)
        noise, cuts = _least(costs, count)
        found.append((noise, costs[0, -1], order, np.diff(edges[cuts])))
    noise, whole, order, sizes = min(found, key=lambda each: each[0])
    rewrite = ChannelGrouping(tensor=layer.tensor, order=tuple(order.tolist()), sizes=tuple(sizes.tolist()))
    return Candidate(rewrite=rewrite, noise=float(noise), gain=float(whole - noise), cost=layer.cost(count))


def _orders(layer: Layer) -> Iterator[NDArray[np.int64]]:
    """By the range of each tensor alone, and by the mean of their logarithms."""
    logarithms = np.log(layer.ranges)
    for key in (*logarithms, logarithms.mean(axis=0)):
        yield np.argsort(key, kind="stable")


def _interval_costs(layer: Layer, order: NDArray[np.int64], edges: NDArray[np.int64]) -> Floats:
    """F of a group of the ordered channels from edge i to edge j, [edges, edges]; infinite for j <= i."""
    starts = edges[:-1]
    lows = np.minimum.reduceat(np.minimum(layer.lows, 0.0)[:, order], starts, axis=1)
    highs = np.maximum.reduceat(np.maximum(layer.highs, 0.0)[:, order], starts, axis=1)
    gains = np.add.reduceat(layer.squared_gains[:, order], starts, axis=1)
    least = np.maximum((np.square(layer.ranges) * layer.squared_gains).sum(axis=1), np.finfo(np.float64).tiny)
    costs = np.full((len(edges), len(edges)), np.inf)
    for first in range(len(starts)):
        widths = np.maximum.accumulate(highs[:, first:], axis=1) - np.minimum.accumulate(lows[:, first:], axis=1)
        noise = np.square(widths) * gains[:, first:].cumsum(axis=1)
        costs[first, first + 1 :] = (noise / least[:, None]).sum(axis=0)
    return costs


def _least(costs: Floats, count: int) -> tuple[float, list[int]]:
    """The least sum over a path of `count` intervals from the first to the last edge, and the edges on it."""
    best, steps = costs[0], []
    for _ in range(count - 1):
        through = best[:, None] + costs
        steps.append(through.argmin(axis=0))
        best = through.min(axis=0)
    path = [len(costs) - 1]
    for step in reversed(steps):
        path.append(int(step[path[-1]]))
    return float(best[-1]), [0, *reversed(path)]
