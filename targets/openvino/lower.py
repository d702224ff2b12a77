"""ONNX graph and table to an OpenVINO model: one small function per ONNX operator.

The float graph is what is lowered; where the table has parameters for an activation, a FakeQuantize with exactly that
range stands behind it (but for those of `grids.without_grid`), and weights and biases are integers times scales. Every
layer has a name of ours: the names that OpenVINO makes hold a counter, which differs from run to run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.outputs import LOGITS, PROBABILITIES
from rexnet_export.quantization.onnx.view import GraphView, attributes_of, view
from rexnet_export.quantization.table.params import QuantParams
from rexnet_export.quantization.table.table import QuantTable
from rexnet_export.targets.openvino.grids import PRODUCT, REAL, SCALED, without_grid
from rexnet_export.targets.openvino.toolchain import runtime

IMAGE, INPUT = "image", "input"
LEVELS, PIXELS = 256, (0.0, 255.0)

type Node = Any  # OpenVINO's: its Python classes say little of their types


def lower(
    model: onnx.ModelProto, outputs: Sequence[str], table: QuantTable | None = None, *, half: bool = False
) -> Node:
    """The `openvino.Model` of a float graph: uint8 `image` [n, H, W, C] -> `outputs`, float32.

    With a table its tensors are INT8; `half` stores weights and biases in float16.
    """
    lowering = Lowering(view(model), table, half=half)
    dimensions = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim[1:]]
    lowering.values[IMAGE] = lowering.ops.parameter([-1, *dimensions], np.uint8, name=IMAGE)
    for node in model.graph.node:
        if node.op_type not in OPERATORS:
            known = ", ".join(sorted(OPERATORS))
            raise ConversionError(f"node {node.name!r} has operator {node.op_type}; OpenVINO's lowering knows {known}")
        lowering.add(node)
    results = [lowering.result(name) for name in outputs]
    lowering.values[IMAGE].output(0).set_names({IMAGE})
    return runtime().Model(results, [lowering.values[IMAGE]], "rexnet")


class Lowering:
    """What is lowered so far, by ONNX tensor name."""

    def __init__(self, graph: GraphView, table: QuantTable | None, *, half: bool) -> None:
        self.ops = runtime().opset13
        self.graph = graph
        self.values: dict[str, Node] = {}
        self._table = table
        self._silent = frozenset() if table is None else without_grid(graph, table)
        self._half = half

    def add(self, node: onnx.NodeProto) -> None:
        """Lower one node, and put what it makes on its grid, where it has one of its own."""
        name = node.output[0]
        params = None if name in self._silent else self.params(name)
        real = OPERATORS[node.op_type](self, node, name if params is None else f"{name}{REAL}")
        self.values[name] = real if params is None else self._on_grid(name, real, params)

    def params(self, name: str) -> QuantParams | None:
        """The table's, where there are any."""
        entry = self._table.tensors.get(name) if self._table is not None else None
        return None if entry is None else entry.params

    def _on_grid(self, name: str, real: Node, params: QuantParams) -> Node:
        low, high = params.limits
        # Pixels are integers already: they are read on their own range, and nothing multiplies them.
        taken = PIXELS if name == INPUT else (low, high)
        ends = (*taken, low, high)
        bounds = [self.constant(f"{name}.{place}", np.float32(end)) for place, end in enumerate(ends, 1)]
        return self.ops.fake_quantize(real, *bounds, LEVELS, name=name)

    def result(self, name: str) -> Node:
        """A declared output under its own name."""
        if name == PROBABILITIES:
            self.values[name] = self.ops.softmax(self.values[LOGITS], axis=1, name=name)
        self.values[name].output(0).set_names({name})
        return self.ops.result(self.values[name], name=f"{name}.result")

    def constant(self, name: str, values: NDArray[Any] | np.generic) -> Node:
        """Numbers in the file, under a name."""
        return self.ops.constant(np.asarray(values), name=name)

    def parameter(self, name: str, shape: Sequence[int], channels: Sequence[int]) -> Node:
        """A weight or bias of this shape as real numbers: as they are, from float16, or integers times scales of shape
        `channels`."""
        values = self.graph.constants[name]
        params = self.params(name)
        if params is not None and self._table is not None:
            integers = self._table.integers(name, values).astype(np.int32 if params.bits == 32 else np.int8)
            scale = self.constant(f"{name}.scale", np.array(params.scale, np.float32).reshape(channels))
            return self.ops.multiply(self._widened(name, integers.reshape(shape)), scale, name=f"{name}{SCALED}")
        if not self._half:
            return self.constant(name, values.reshape(shape))
        with np.errstate(over="ignore"):
            stored = values.astype(np.float16)
        if not np.isfinite(stored).all():
            raise ConversionError(f"{name} holds {np.abs(values).max():g}, beyond float16; use --fp32")
        return self._widened(name, stored.reshape(shape))

    def _widened(self, name: str, stored: NDArray[Any]) -> Node:
        return self.ops.convert(self.constant(name, stored), "f32", name=f"{name}{REAL}")


def _conv(lowering: Lowering, node: onnx.NodeProto, name: str) -> Node:
    source, weight, bias = node.input
    attributes = attributes_of(node)
    groups, shape = attributes.get("group", 1), lowering.graph.constants[weight].shape
    parts = [shape[0]] if groups == 1 else [groups, shape[0] // groups]
    build = lowering.ops.convolution if groups == 1 else lowering.ops.group_convolution
    top, left, bottom, right = attributes.get("pads", [0, 0, 0, 0])
    product = build(
        lowering.values[source],
        lowering.parameter(weight, [*parts, *shape[1:]], [*parts, 1, 1, 1]),
        attributes.get("strides", [1, 1]),
        [top, left],
        [bottom, right],
        attributes.get("dilations", [1, 1]),
        name=f"{node.output[0]}{PRODUCT}",
    )
    channels = [1, shape[0], 1, 1]
    return lowering.ops.add(product, lowering.parameter(bias, channels, channels), name=name)


def _gemm(lowering: Lowering, node: onnx.NodeProto, name: str) -> Node:
    source, weight, bias = node.input
    attributes = attributes_of(node)
    if attributes.pop("transB", 0) != 1 or set(attributes.values()) - {1.0, 0}:
        raise ConversionError(f"node {node.name!r}: only Gemm with transB=1 and factors 1 is lowered for OpenVINO")
    outputs, inputs = lowering.graph.constants[weight].shape
    weights = lowering.parameter(weight, [outputs, inputs], [outputs, 1])
    product_name = f"{node.output[0]}{PRODUCT}"
    product = lowering.ops.matmul(lowering.values[source], weights, False, True, name=product_name)  # noqa: FBT003
    return lowering.ops.add(product, lowering.parameter(bias, [1, outputs], [1, outputs]), name=name)


def _image(lowering: Lowering, node: onnx.NodeProto, name: str) -> Node:
    """Pixels as real numbers: on the image's grid with a table, else times the scale of the graph."""
    scale, zero_point = (lowering.graph.constant(node, place) for place in (1, 2))
    if node.output[0] != INPUT or zero_point.any():
        raise ConversionError(f"node {node.name!r} does not read an image as this exporter's graphs do; export again")
    read = lowering.ops.convert(lowering.values[node.input[0]], "f32", name=f"{INPUT}.pixels")
    if lowering.params(INPUT) is not None:
        return read
    return lowering.ops.multiply(read, lowering.constant(f"{INPUT}.scale", scale), name=name)


def _pad(lowering: Lowering, node: onnx.NodeProto, name: str) -> Node:
    """Channels appended: white ones to the image, else zeros."""
    pads = lowering.graph.constant(node, 1).astype(np.int64)
    source = lowering.values[node.input[0]]
    value = lowering.graph.constant(node, 2) if node.input[0] == IMAGE else np.float32(0)
    before, after = np.split(pads, 2)
    ends = lowering.constant(f"{name}.before", before), lowering.constant(f"{name}.after", after)
    return lowering.ops.pad(source, *ends, "constant", lowering.constant(f"{name}.value", value), name=name)


def _transpose(lowering: Lowering, node: onnx.NodeProto, name: str) -> Node:
    """Channels first. What an image is padded with is put behind its planes: OpenVINO pads each pixel by itself."""
    axes = attributes_of(node)["perm"]
    order = lowering.constant(f"{name}.order", np.array(axes, np.int64))
    padded = lowering.values[node.input[0]]
    if padded.get_type_name() != "Pad":
        return lowering.ops.transpose(padded, order, name=name)
    source, before, after, value = (end.get_node() for end in padded.input_values())
    planes = lowering.ops.transpose(source, order, name=f"{node.input[0]}.planes")
    ends = (lowering.constant(end.get_friendly_name(), end.data[axes]) for end in (before, after))
    return lowering.ops.pad(planes, *ends, "constant", value, name=name)


def _flatten(lowering: Lowering, node: onnx.NodeProto, name: str) -> Node:
    shape = lowering.constant(f"{name}.shape", np.array([0, -1], np.int64))
    return lowering.ops.reshape(lowering.values[node.input[0]], shape, True, name=name)  # noqa: FBT003


def _pool(lowering: Lowering, node: onnx.NodeProto, name: str) -> Node:
    axes = lowering.constant(f"{name}.axes", np.array([2, 3], np.int64))
    return lowering.ops.reduce_mean(lowering.values[node.input[0]], axes, keep_dims=True, name=name)


def _clip(lowering: Lowering, node: onnx.NodeProto, name: str) -> Node:
    low, high = (float(lowering.graph.constant(node, place)) for place in (1, 2))
    return lowering.ops.clamp(lowering.values[node.input[0]], low, high, name=name)


def _concat(lowering: Lowering, node: onnx.NodeProto, name: str) -> Node:
    return lowering.ops.concat(
        [lowering.values[source] for source in node.input], attributes_of(node)["axis"], name=name
    )


def _plain(operator: str) -> Operator:
    """An operator of one or two tensors and no attributes."""

    def lower_plain(lowering: Lowering, node: onnx.NodeProto, name: str) -> Node:
        return getattr(lowering.ops, operator)(*(lowering.values[source] for source in node.input), name=name)

    return lower_plain


type Operator = Callable[[Lowering, onnx.NodeProto, str], Node]
OPERATORS: Mapping[str, Operator] = {
    "Add": _plain("add"),
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _conv,
    "DequantizeLinear": _image,
    "Flatten": _flatten,
    "Gemm": _gemm,
    "GlobalAveragePool": _pool,
    "Mul": _plain("multiply"),
    "Pad": _pad,
    "Relu": _plain("relu"),
    "Sigmoid": _plain("sigmoid"),
    "Transpose": _transpose,
}
