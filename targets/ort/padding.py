"""Channels of zeros beside a quantized network's own, where kernels for VNNI want whole groups of them.

ONNX Runtime's fast convolutions of UINT8 and INT8 take numbers of channels that are multiples of 4, and of 16 where
each output channel reads one input channel (depthwise). A channel whose weights and bias are 0 is 0 behind every
operator of a ReXNet that others read: SiLU and the gate multiply it, whatever their sigmoid makes of it. What reads it
has weights of 0 for it. So every integer of the network's own channels is what it was.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from rexnet_export.pipeline.artifact.metadata import PADDED
from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.strict_json import strict_loads
from rexnet_export.quantization.onnx.view import GraphView, attributes_of, view

if TYPE_CHECKING:
    from rexnet_export.targets.ort.format import Graph

NARROW, WIDE = 4, 16
MAP = 4  # axes of [N, C, H, W]; what has fewer belongs to a head
CHANNELS_PADDED = 5  # the place in the pads of [N, C, H, W] that adds channels behind the others
LONGEST = 2**20  # characters of the metadata entry
PARAMETERS, SCALE = (3, 4, 5, 8), 4  # where a QLinearConv has weight, scale, zero point and bias
_WEIGHTED = frozenset({"Conv", "Gemm"})


def padded(model: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, int]]:
    """A QDQ graph whose weights are all integers with channels of zeros; the own channels of each tensor that got some.

    What leaves the graph, or is joined to others, keeps its channels.
    """
    graph = view(model)
    values = (*model.graph.value_info, *model.graph.output)
    widths = _Widths(graph, {value.name: _shape(value) for value in values})
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    del changed.graph.value_info[:]
    arrays = dict(graph.constants)
    makers = {node.output[0]: node for node in graph.nodes}
    for node in changed.graph.node:
        if node.op_type == "Pad" and node.input[0] not in graph.inputs:
            arrays[node.input[1]] = arrays[node.input[1]].copy()
            arrays[node.input[1]][CHANNELS_PADDED] = widths.of(node.output[0]) - widths.of(node.input[0])
        if node.op_type not in _WEIGHTED:
            continue
        sizes = (widths.of(node.output[0]), widths.of(node.input[0]))
        for attribute in node.attribute:
            if attribute.name == "group" and attribute.i > 1:
                attribute.i, sizes = sizes[0], (sizes[0], 1)
        for stored, shape in zip(node.input[1:], (sizes, sizes[:1]), strict=False):
            values, *grids = makers[stored].input
            arrays[values] = _grown(arrays[values], shape)
            for grid in grids:
                arrays[grid] = _grown(arrays[grid], sizes[:1], mode="edge")
    del changed.graph.initializer[:]
    changed.graph.initializer.extend(numpy_helper.from_array(values, name) for name, values in arrays.items())
    changed = onnx.shape_inference.infer_shapes(changed, check_type=True, strict_mode=True)
    onnx.checker.check_model(changed, full_check=True)
    return changed, dict(widths.grown())


def _shape(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    return tuple(dimension.dim_value for dimension in value.type.tensor_type.shape.dim)


def _grown(values: NDArray[np.generic], sizes: Sequence[int], mode: str = "constant") -> NDArray[np.generic]:
    """With zeros behind, or with the last number again, up to these sizes of the first axes."""
    behind = [(0, size - own) for size, own in zip(sizes, values.shape, strict=False)]
    grown: NDArray[np.generic] = np.pad(values, behind + [(0, 0)] * (values.ndim - len(behind)), mode=mode)  # type: ignore[call-overload]
    return grown


class _Widths:
    """How many channels each value is to have: those that are multiplied or added channel by channel as many."""

    def __init__(self, graph: GraphView, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._graph, self._own = graph, {name: shape[1] for name, shape in shapes.items() if len(shape) > 1}
        self._next: dict[str, str] = {}
        maps = {name for name, shape in shapes.items() if len(shape) == MAP}
        wide, kept = set[str](), {*graph.inputs, *graph.outputs, *(self._own.keys() - maps)}
        for node in graph.nodes:
            (output,) = node.output
            if node.op_type == "Concat" or (node.op_type == "Pad" and node.input[0] in graph.inputs):
                kept |= {output, *node.input}
            elif node.op_type == "Conv" and attributes_of(node)["group"] > 1:
                self._join(output, node.input[0])
                wide.add(output)
            elif node.op_type in {"Add", "Mul"}:
                self._join(output, *node.input)
            elif node.op_type not in {*_WEIGHTED, "Pad"} and node.input[0] not in graph.constants:
                self._join(output, node.input[0])
        self._wide = {self._class(name) for name in wide}
        self._kept = {self._class(name) for name in kept}
        self._keep_what_is_cut()

    def of(self, value: str) -> int:
        """Its channels, with those of zeros."""
        kind, own = self._class(value), self._own[value]
        multiple = 1 if kind in self._kept else WIDE if kind in self._wide else NARROW
        return -(-own // multiple) * multiple

    def grown(self) -> Iterator[tuple[str, int]]:
        """The quantized tensors that have channels of zeros, and how many of their own."""
        for name, own in self._own.items():
            if name.endswith(".q") and name not in self._graph.constants and self.of(name) > own:
                yield name.removesuffix(".q"), own

    def _keep_what_is_cut(self) -> None:
        """A Pad can add channels only: what it reads keeps its own where it would have more than the result."""
        for node in reversed(self._graph.nodes):
            pads = node.op_type == "Pad" and node.input[0] not in self._graph.inputs
            if pads and self.of(node.input[0]) > self.of(node.output[0]):
                self._kept.add(self._class(node.input[0]))

    def _class(self, name: str) -> str:
        while name in self._next:
            name = self._next[name]
        return name

    def _join(self, one: str, *others: str) -> None:
        for other in others:
            a, b = self._class(one), self._class(other)
            if a != b:
                self._next[b] = a


def stating(channels: Mapping[str, int]) -> dict[str, str]:
    """The metadata entry that says which tensors have channels of zeros, and how many of their own."""
    return {PADDED: json.dumps(channels, separators=(",", ":"))} if channels else {}


def own_channels(metadata: Mapping[str, str]) -> dict[str, int]:
    """The inverse of `stating`, for files that may come from anywhere."""
    if PADDED not in metadata:
        return {}
    found = strict_loads(metadata[PADDED], LONGEST)
    if isinstance(found, dict) and all(type(own) is int and own > 0 for own in found.values()):
        return found
    raise ConversionError(f"metadata {PADDED!r} is no map of numbers of channels; export the model again")


def unpadded(graph: Graph, names: Mapping[str, str]) -> Graph:
    """The graph without its channels of zeros; `names` says which ONNX tensor each of its values is.

    A constant that has anything else there than what `padded` writes stays whole, and so is not what it is to be.
    """
    nodes, constants, shapes = list(graph.nodes), dict(graph.constants), dict(graph.shapes)
    for at, node in enumerate(graph.nodes):
        if node.op != "QLinearConv":
            continue
        rows, columns = (graph.channels.get(names.get(name, "")) for name in (node.outputs[0], node.inputs[0]))
        inputs = list(node.inputs)
        weight, scale, zero_point, *bias = (inputs[place] for place in PARAMETERS if place < len(inputs))
        constants[weight] = _own(graph.constants[weight], 0, rows, columns)
        constants |= {name: _own(graph.constants[name], 0, rows) for name in (zero_point, *bias)}
        if rows:
            inputs[SCALE] = f"{scale} of {node.name}"  # equal scales are one constant, whatever their layers' own rows
            constants[inputs[SCALE]] = _own(graph.constants[scale], graph.constants[scale].flat[rows - 1], rows)
            nodes[at] = replace(node, inputs=tuple(inputs))
            shapes[node.outputs[0]] = _own_shape(shapes[node.outputs[0]], rows, len(graph.constants[weight]))
    return replace(graph, nodes=tuple(nodes), constants=constants, shapes=shapes)


def _own(values: NDArray[np.generic], fill: np.generic | int, *sizes: int | None) -> NDArray[np.generic]:
    """A constant's own rows and columns, where it has nothing but `fill` behind them."""
    own = (*(slice(size) for size in sizes[: values.ndim]), ...)  # a zero point for all rows has none of its own
    behind = np.ones(values.shape, bool)
    behind[own] = False
    return values[own] if (values[behind] == fill).all() else values


def _own_shape(shape: tuple[int, ...], own: int, stored: int) -> tuple[int, ...]:
    """With its own channels, wherever the layout has them."""
    at = shape.index(stored, 1)
    return (*shape[:at], own, *shape[at + 1 :])
