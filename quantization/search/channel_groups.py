"""Which channels of a layer share a scale: ways to cut it into groups, with the noise each way leaves and its cost.

A step of a tensor's scale is as wide as the group's range asks, and every channel of the group gets the rounding noise
of that step, a twelfth of its square. With the squared slopes s_c of the logits at each channel, the logits' mean
squared error is

    F = sum over groups (range of the group / 255)^2 / 12 * (sum of s_c in it)

and the best cut of ordered channels has the least F, summed over the tensors that are cut together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from rexnet_export.quantization.calibration.observe import TensorStatistics
from rexnet_export.quantization.calibration.slopes import Slopes
from rexnet_export.quantization.onnx.view import GraphView, view
from rexnet_export.quantization.rewrites.group_channels import cut_tensors, is_channelwise, is_dense
from rexnet_export.quantization.table.params import LEVELS
from rexnet_export.quantization.table.rewrites import ChannelGrouping

GROUPS = (2, 3, 4)
LANES = 16  # channels that kernels take at once
MULTIPLES = (16, 8)  # of channels in a group: full lanes, then half of them
# How long an operator, a value read and a product of an empty lane take, in multiply-accumulates of INT8: see
# docs/benchmarks.md.
OPERATOR = 100_000.0
ELEMENT = 10.0
EMPTY = 2.0
REFERENCE_SIZE = 224  # what a cut costs in smaller images, where an operator's start takes longer than its work, is
# counted as in this one: hard networks would otherwise be left to fail for the sake of microseconds
_CLAMPS = frozenset({"Clip", "Relu"})  # part of the operator before them

type Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A cut of one layer, F of the module's docstring after it, and the time it adds as a share of the network's."""

    rewrite: ChannelGrouping
    noise: float
    cost: float


@dataclass(frozen=True, kw_only=True)
class Layer:
    """What is cut with one convolution's output: of each tensor and channel the ends of its range and the slope there.

    `lows`, `highs` and `slopes` (squared) are [tensors, channels], tensors in the order of `cut`. `operators` is how
    many are written once a group, `joins` how many put groups together again, `read` how many values the convolution
    reads for each group, `products` how many multiply-accumulates a channel takes; `network` is the time of all.
    """

    tensor: str
    cut: tuple[str, ...]
    lows: Floats
    highs: Floats
    slopes: Floats
    operators: int
    joins: int
    read: float
    products: float
    network: float

    @property
    def ranges(self) -> Floats:
        """Of each tensor and channel, widened to contain zero; never zero."""
        widened: Floats = np.maximum(self.highs, 0.0) - np.minimum(self.lows, 0.0)
        return np.maximum(widened, np.finfo(np.float32).tiny)

    @property
    def noise(self) -> float:
        """F of the module's docstring with all channels in one group."""
        widths = np.maximum(self.highs.max(axis=1), 0.0) - np.minimum(self.lows.min(axis=1), 0.0)
        return float((np.square(widths / LEVELS) / 12 * self.slopes.sum(axis=1)).sum())

    def cost(self, sizes: Sequence[int]) -> float:
        """Added time as a share of the network's, for groups of so many channels."""
        once_a_group = self.operators * OPERATOR + self.read * ELEMENT
        empty = sum(-size % LANES for size in sizes) - -sum(sizes) % LANES
        added = (len(sizes) - 1) * once_a_group + self.joins * OPERATOR + empty * self.products * EMPTY
        return added / self.network


def candidates(
    layer: Layer, counts: Sequence[int] = GROUPS, multiples: Sequence[int] = MULTIPLES
) -> tuple[Candidate, ...]:
    """The best cut of a layer into each number of groups, for groups that are multiples of so many channels."""
    priced = {multiple: _priced(layer, multiple) for multiple in multiples}
    found = (_best_of(layer, count, *priced[multiple]) for count in counts for multiple in multiples)
    return tuple(dict.fromkeys(cut for cut in found if cut))


def layers(
    model: onnx.ModelProto, statistics: Mapping[str, TensorStatistics], slopes: Mapping[str, Slopes]
) -> Iterator[Layer]:
    """Every convolution that only SiLU reads, with the observed tensors that are cut with it, in graph order.

    Pooled tensors are left out: joined again, they have no scales of their own.
    """
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
            pooled = {part.output[0] for part in graph.nodes if part.op_type == "GlobalAveragePool"}
            seen = tuple(name for name in statistics if name in cut - pooled)
            yield Layer(
                tensor=node.output[0],
                cut=seen,
                lows=np.stack([statistics[name].channel_minima for name in seen]).astype(np.float64),
                highs=np.stack([statistics[name].channel_maxima for name in seen]).astype(np.float64),
                slopes=np.stack([slopes[name].by_channel for name in seen]),
                operators=sum(part.output[0] in cut and part.op_type not in _CLAMPS for part in graph.nodes),
                joins=len(joined),
                read=_products(node, graph, sizes, growth) / sizes[node.output[0]][1],
                products=sum(
                    _products(part, graph, sizes, growth)
                    for part in graph.nodes
                    if part.op_type == "Conv" and part.output[0] in cut
                )
                / sizes[node.output[0]][1],
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


def best_cut(layer: Layer, count: int, multiple: int) -> Candidate | None:
    """The least noise for channels in the order of a range; None where they are too few for groups of `multiple`."""
    return _best_of(layer, count, *_priced(layer, multiple))


def _priced(layer: Layer, multiple: int) -> tuple[NDArray[np.int64], list[tuple[NDArray[np.int64], Floats]]]:
    """Where ordered channels may be cut, and each order with what the groups between two such places cost."""
    channels = layer.lows.shape[1]
    edges = np.array([*range(0, channels - multiple + 1, multiple), channels])  # what is left over goes to the last
    return edges, [(order, _interval_costs(layer, order, edges)) for order in _orders(layer)]


def _best_of(
    layer: Layer, count: int, edges: NDArray[np.int64], priced: Sequence[tuple[NDArray[np.int64], Floats]]
) -> Candidate | None:
    if len(edges) <= count:
        return None
    found = []
    for order, costs in priced:
        noise, cuts = _least(costs, count)
        found.append((noise, order, np.diff(edges[cuts])))
    noise, order, sizes = min(found, key=lambda each: each[0])
    rewrite = ChannelGrouping(tensor=layer.tensor, order=tuple(order.tolist()), sizes=tuple(sizes.tolist()))
    return Candidate(rewrite=rewrite, noise=float(noise), cost=layer.cost(rewrite.sizes))


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
    slopes = np.add.reduceat(layer.slopes[:, order], starts, axis=1)
    costs = np.full((len(edges), len(edges)), np.inf)
    for first in range(len(starts)):
        widths = np.maximum.accumulate(highs[:, first:], axis=1) - np.minimum.accumulate(lows[:, first:], axis=1)
        noise = np.square(widths / LEVELS) / 12 * slopes[:, first:].cumsum(axis=1)
        costs[first, first + 1 :] = noise.sum(axis=0)
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
