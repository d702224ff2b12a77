"""Grouped scales: the channels that a block expands to, cut into several tensors that each have a scale of their own.

Between the convolution that makes them and the one that reads them all, channels do not mix: SiLU, depthwise
convolution, pooling, gate and clamp work on every channel alone. So those nodes are written once a group, and a Concat
stands where channels mix: ahead of the projection, of the squeeze convolution, of the classifier.

    expand -> silu -> depthwise -> relu6 -> project
    expand.g0 -> silu.g0 -> depthwise.g0 -> relu6.g0 -\
                                                       relu6 (Concat) -> project, its input columns permuted
    expand.g1 -> silu.g1 -> depthwise.g1 -> relu6.g1 -/

The float function is unchanged and so is the arithmetic. Group k of node `n` is `n.gk`; its tensor and parameters are
named after it, and the joined tensor keeps the old name.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.quantization.onnx.view import GraphView, view
from rexnet_export.quantization.table.rewrites import ChannelGrouping

CHANNELS = 1  # the axis of NCHW
_CHANNELWISE = frozenset({"Sigmoid", "Mul", "Clip", "Relu", "GlobalAveragePool"})


def group_channels(model: onnx.ModelProto, rewrite: ChannelGrouping) -> onnx.ModelProto:
    """The same function with the channels of `rewrite.tensor` in `len(rewrite.sizes)` tensors."""
    graph = view(model)
    cut = cut_tensors(graph, rewrite.tensor)
    cutting = _Cutting(graph, cut, _members(rewrite, graph))
    for node in graph.nodes:
        cutting.add(node)
    grouped = onnx.ModelProto()
    grouped.CopyFrom(model)
    del grouped.graph.node[:], grouped.graph.value_info[:], grouped.graph.initializer[:]
    grouped.graph.node.extend(cutting.nodes)
    for tensor in model.graph.initializer:
        new = cutting.constants.get(tensor.name)
        grouped.graph.initializer.extend(
            [tensor] if new is None else [numpy_helper.from_array(values, name) for name, values in new.items()]
        )
    grouped = onnx.shape_inference.infer_shapes(grouped, check_type=True, strict_mode=True)
    onnx.checker.check_model(grouped, full_check=True)
    return grouped


def member(name: str, group: int) -> str:
    """What the part of node `name` in a group is called."""
    return f"{name}.g{group}"


def cut_tensors(graph: GraphView, tensor: str) -> frozenset[str]:
    """All tensors that hold the channels of `tensor`, since only channelwise nodes lie between them."""
    makers = {node.output[0]: node for node in graph.nodes}
    cut: set[str] = set()
    waiting = [tensor]
    while waiting:
        name = waiting.pop()
        if name in cut:
            continue
        if name not in makers or name in graph.outputs:
            raise ConversionError(f"{tensor} cannot be cut into groups: {name} is an end of the graph")
        cut.add(name)
        for node in (makers[name], *graph.consumers.get(name, ())):
            if is_channelwise(node, graph):
                waiting += [node.output[0], *(source for source in node.input if source not in graph.constants)]
            elif not is_dense(node) and not (node is not makers[name] and _flattens_for_product(node, graph)):
                raise ConversionError(f"{tensor} cannot be cut into groups: {node.op_type} {node.name} is in the way")
    return frozenset(cut)


def is_channelwise(node: onnx.NodeProto, graph: GraphView) -> bool:
    """Whether each channel of a node's result depends on the same channel of its inputs alone."""
    if node.op_type == "Conv":
        return len(graph.constant(node, 1)) == _conv_groups(node) > 1
    return node.op_type in _CHANNELWISE


def is_dense(node: onnx.NodeProto) -> bool:
    """Whether a node is a convolution that mixes all channels."""
    return node.op_type == "Conv" and _conv_groups(node) == 1


def _conv_groups(node: onnx.NodeProto) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == "group"), 1)


def _flattens_for_product(node: onnx.NodeProto, graph: GraphView) -> bool:
    return node.op_type == "Flatten" and {reader.op_type for reader in graph.consumers[node.output[0]]} == {"Gemm"}


def dense_readers(node: onnx.NodeProto, graph: GraphView) -> tuple[onnx.NodeProto, ...]:
    """The nodes whose weights have a column for each channel that `node` reads: itself, or those behind a Flatten."""
    return graph.consumers[node.output[0]] if node.op_type == "Flatten" else (node,)


def _members(rewrite: ChannelGrouping, graph: GraphView) -> list[NDArray[np.int64]]:
    """The old channel indices of each group."""
    (maker,) = (node for node in graph.nodes if node.output[0] == rewrite.tensor)
    if not is_dense(maker):
        raise ConversionError(f"{rewrite.tensor} is made by {maker.op_type}; name the convolution that expands")
    channels = len(graph.constant(maker, 1))
    if sorted(rewrite.order) != list(range(channels)):
        raise ConversionError(f"the order of {rewrite.tensor} must hold each of its {channels} channels once")
    if len(rewrite.sizes) < 2 or min(rewrite.sizes) < 1 or sum(rewrite.sizes) != channels:
        raise ConversionError(f"{rewrite.tensor} has {channels} channels: groups of {rewrite.sizes} do not divide them")
    return np.split(np.asarray(rewrite.order, np.int64), np.cumsum(rewrite.sizes)[:-1])


class _Cutting:
    """New nodes in order, and for each old constant that changes the new ones by name."""

    def __init__(self, graph: GraphView, cut: frozenset[str], members: list[NDArray[np.int64]]) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, dict[str, NDArray[Any]]] = {}
        self._graph = graph
        self._cut = cut
        self._members = members
        self._run: list[onnx.NodeProto] = []

    def add(self, node: onnx.NodeProto) -> None:
        """Write what a node becomes; those that are cut wait until a node reads all their channels."""
        if self._joins(node):
            self._write_run()
            for reader in dense_readers(node, self._graph):
                self._permute_columns(reader)
        if node.output[0] in self._cut:
            self._run.append(node)
        else:
            self.nodes.append(node)

    def _joins(self, node: onnx.NodeProto) -> bool:
        return not self._cut.isdisjoint(node.input) and not is_channelwise(node, self._graph)

    def _write_run(self) -> None:
        """One group after the other, so that what it computes is still in the cache when it is read; then the joins."""
        for group, channels in enumerate(self._members):
            self.nodes += [self._part(node, group, channels) for node in self._run]
        for (output,) in (node.output for node in self._run):
            if any(self._joins(reader) for reader in self._graph.consumers[output]):
                parts = [member(output, group) for group in range(len(self._members))]
                self.nodes.append(helper.make_node("Concat", parts, [output], output, axis=CHANNELS))
        self._run = []

    def _part(self, node: onnx.NodeProto, group: int, channels: NDArray[np.int64]) -> onnx.NodeProto:
        part = onnx.NodeProto()
        part.CopyFrom(node)
        part.name = part.output[0] = member(node.output[0], group)
        for position, name in enumerate(node.input):
            if name in self._cut:
                part.input[position] = member(name, group)
            elif name in self._graph.constants and node.op_type in {"Conv", "Mul"}:
                part.input[position] = self._part_of_constant(node, name, group, channels)
        if is_channelwise(node, self._graph):
            for attribute in part.attribute:
                if attribute.name == "group":
                    attribute.i = len(channels)
        return part

    def _part_of_constant(self, node: onnx.NodeProto, name: str, group: int, channels: NDArray[np.int64]) -> str:
        """A convolution's rows and biases, or the factors [1, C, 1, 1] of a multiplication."""
        new = f"{member(node.output[0], group)}.{name.removeprefix(f'{node.output[0]}.')}"
        values = self._graph.constants[name].take(channels, axis=0 if node.op_type == "Conv" else CHANNELS)
        self.constants.setdefault(name, {})[new] = values
        return new

    def _permute_columns(self, node: onnx.NodeProto) -> None:
        columns = self._graph.constant(node, 1)
        self.constants[node.input[1]] = {node.input[1]: columns[:, np.concatenate(self._members)]}
