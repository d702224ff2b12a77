"""A small evaluator of ONNX graphs in torch, for files that nobody vouches for.

It knows the few operators that exporters make of a ReXNet, bounds every tensor, and remembers each layer with weights
in the order they are computed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor
from torch.nn import functional

MOST_NODES = 5_000
MOST_NUMBERS = 1 << 26  # of one tensor
MOST_IN_ALL = 1 << 28
MOST_MACS = 20_000_000_000  # of all convolutions

type Attributes = Mapping[str, Any]  # whatever the file has


class NotRecognised(Exception):
    """The graph does what no exporter makes of a ReXNet."""


@dataclass(kw_only=True)
class Layer:
    """One convolution or matrix product: its weights as torch has them, and the BatchNorm behind it.

    `source` is the tensor that it reads; it is `pooled` where that has no sides.
    """

    weight: Tensor
    bias: Tensor | None
    groups: int
    source: str
    pooled: bool
    norm: tuple[Tensor, Tensor, Tensor, Tensor] | None = None


@dataclass(kw_only=True)
class Evaluation:
    """The tensors of a graph as far as it is computed, and its layers in that order."""

    values: dict[str, Tensor]
    constants: set[str]
    layers: list[Layer] = field(default_factory=list)
    makers: dict[str, Layer] = field(default_factory=dict)
    macs: int = 0
    numbers: int = 0

    def step(self, node: onnx.NodeProto) -> None:
        """Compute one node."""
        compute = _OPERATORS.get(node.op_type) if node.domain in ("", "ai.onnx") else None
        if compute is None:
            raise NotRecognised(f"operator {node.op_type}{_OTHERS.get(node.op_type, '')}")
        attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        if set(node.input) - self.values.keys() - {""}:
            raise NotRecognised(f"an input of {node.op_type} is computed later, or never")
        result = compute(self, node, attributes)
        self.numbers += result.numel()
        if self.numbers > MOST_IN_ALL:
            raise NotRecognised(f"{MOST_IN_ALL:,} numbers are not enough to compute it")
        self.values[node.output[0]] = result
        # A shape is fixed here, and of what a CastLike resembles only the type counts.
        sources = {"Shape": [], "CastLike": node.input[:1]}.get(node.op_type, node.input)
        if all(name in self.constants for name in sources if name):
            self.constants.add(node.output[0])

    def given(self, node: onnx.NodeProto, position: int) -> Tensor | None:
        """An input by position, None where it is left out."""
        name = node.input[position] if position < len(node.input) else ""
        return self.values[name] if name else None

    def integers(self, node: onnx.NodeProto, position: int, attributes: Attributes, name: str) -> list[int] | None:
        """A list that newer opsets have as an input and older ones as an attribute."""
        value = self.given(node, position)
        if value is not None:
            return [int(number) for number in value.flatten()[:16]]
        listed = attributes.get(name)
        return [int(number) for number in listed] if isinstance(listed, list | tuple) else None

    def require_constant(self, node: onnx.NodeProto, *positions: int) -> None:
        """Weights must be stored, not computed from the image."""
        if any(node.input[at] not in self.constants for at in positions if at < len(node.input) and node.input[at]):
            raise NotRecognised(f"{node.op_type} has weights that are computed")


def evaluate(model: onnx.ModelProto, image: Tensor, constants: Mapping[str, Tensor]) -> tuple[Tensor, list[Layer]]:
    """The graph's one output for an image, and its layers; `NotRecognised` says what stands against it."""
    graph = model.graph
    inputs = [value.name for value in graph.input if value.name not in constants]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise NotRecognised(f"{len(inputs)} inputs and {len(graph.output)} outputs")
    if len(graph.node) > MOST_NODES:
        raise NotRecognised(f"{len(graph.node):,} nodes")
    run = Evaluation(values={inputs[0]: image, **constants}, constants=set(constants))
    return _ended(run, graph, graph.node), run.layers


def evaluate_from(model: onnx.ModelProto, source: str, values: Tensor, constants: Mapping[str, Tensor]) -> Tensor:
    """The output of a graph that was evaluated before, for other values of one of its tensors.

    `NotRecognised` where the output follows from more than that tensor.
    """
    run = Evaluation(values={source: values, **constants}, constants=set(constants))
    known = set(run.values)
    behind = []
    for node in model.graph.node:
        if set(node.input) - {""} <= known and node.output[0] not in known:
            behind.append(node)
            known.add(node.output[0])
    return _ended(run, model.graph, behind)


def _ended(run: Evaluation, graph: onnx.GraphProto, nodes: Iterable[onnx.NodeProto]) -> Tensor:
    with torch.inference_mode():
        for node in nodes:
            try:
                run.step(node)
            except (RuntimeError, ValueError, TypeError, IndexError, KeyError, OverflowError) as error:
                reason = str(error).split("\n", 1)[0]
                raise NotRecognised(f"{node.op_type} cannot be computed ({reason})") from error
    output = run.values.get(graph.output[0].name)
    if output is None or not output.is_floating_point():
        raise NotRecognised("an output that is no numbers")
    return output


def bounded(*sides: int) -> None:
    """Refuse a tensor of so many numbers before it is made."""
    if math.prod(sides) > MOST_NUMBERS:
        raise NotRecognised(f"a tensor of {' x '.join(map(str, sides))} numbers")


def _convolution(run: Evaluation, node: onnx.NodeProto, attributes: Attributes) -> Tensor:
    run.require_constant(node, 1, 2)
    x, weight, bias = run.values[node.input[0]], run.values[node.input[1]], run.given(node, 2)
    strides, pads = _pair(attributes, "strides", 1), attributes.get("pads", [0, 0, 0, 0])
    groups = int(attributes.get("group", 1))
    if attributes.get("auto_pad", b"NOTSET") != b"NOTSET" or _pair(attributes, "dilations", 1) != (1, 1):
        raise NotRecognised("a convolution that is padded or dilated unusually")
    above, left, below, right = (int(pad) for pad in pads)
    run.macs += x.shape[0] * weight.numel() * x.shape[2] * x.shape[3] // (strides[0] * strides[1])
    if (above, left) != (below, right) or run.macs > MOST_MACS or max(above, left) > 8:
        raise NotRecognised("a convolution that is larger or padded otherwise than a ReXNet's")
    result = functional.conv2d(x, weight, bias, strides, (above, left), 1, groups)
    pooled = x.shape[2:] == (1, 1)
    run.layers.append(Layer(weight=weight, bias=bias, groups=groups, source=node.input[0], pooled=pooled))
    run.makers[node.output[0]] = run.layers[-1]
    return result


def _pair(attributes: Attributes, name: str, default: int) -> tuple[int, int]:
    first, second = attributes.get(name, [default, default])
    return int(first), int(second)


def _batch_norm(run: Evaluation, node: onnx.NodeProto, attributes: Attributes) -> Tensor:
    run.require_constant(node, 1, 2, 3, 4)
    scale, bias, mean, variance = (run.values[name] for name in node.input[1:5])
    epsilon = float(attributes.get("epsilon", 1e-5))
    if (layer := run.makers.get(node.input[0])) is None or layer.norm is not None:
        raise NotRecognised("a BatchNorm that follows no convolution")
    # torch's own epsilon is added where the network is built
    layer.norm = scale, bias, mean, variance + (epsilon - 1e-5)
    return functional.batch_norm(run.values[node.input[0]], mean, variance, scale, bias, eps=epsilon)


def _gemm(run: Evaluation, node: onnx.NodeProto, attributes: Attributes) -> Tensor:
    run.require_constant(node, 1, 2)
    if attributes.get("transA", 0) or any(attributes.get(name, 1.0) != 1.0 for name in ("alpha", "beta")):
        raise NotRecognised("a matrix product with factors")
    weight = run.values[node.input[1]]
    return _product(run, node, weight if attributes.get("transB", 0) else weight.T, run.given(node, 2))


def _matmul(run: Evaluation, node: onnx.NodeProto, _: Attributes) -> Tensor:
    run.require_constant(node, 1)
    return _product(run, node, run.values[node.input[1]].T, None)


def _product(run: Evaluation, node: onnx.NodeProto, weight: Tensor, bias: Tensor | None) -> Tensor:
    x = run.values[node.input[0]]
    bounded(*x.shape[:-1], weight.shape[0])
    bias = None if bias is None else bias.expand(weight.shape[0])
    run.layers.append(Layer(weight=weight, bias=bias, groups=1, source=node.input[0], pooled=True))
    run.makers[node.output[0]] = run.layers[-1]
    return functional.linear(x, weight, bias)


def _add(run: Evaluation, node: onnx.NodeProto, _: Attributes) -> Tensor:
    for product, bias in (node.input, reversed(node.input)):
        layer = run.makers.get(product)
        if layer is not None and layer.bias is None and layer.norm is None and bias in run.constants:
            layer.bias = run.values[bias].flatten().expand(layer.weight.shape[0])
    one, other = _together(run, node)
    return one + other


def _together(run: Evaluation, node: onnx.NodeProto) -> tuple[Tensor, Tensor]:
    """Two operands whose broadcast result is not too large."""
    one, other = run.values[node.input[0]], run.values[node.input[1]]
    bounded(*(max(sides) for sides in zip_longest(reversed(one.shape), reversed(other.shape), fillvalue=1)))
    return one, other


def _shape(run: Evaluation, node: onnx.NodeProto, attributes: Attributes) -> Tensor:
    return torch.tensor(run.values[node.input[0]].shape)[attributes.get("start", 0) : attributes.get("end")]


def _concat(run: Evaluation, node: onnx.NodeProto, attributes: Attributes) -> Tensor:
    parts = [run.values[name] for name in node.input]
    bounded(sum(part.numel() for part in parts))
    return torch.cat(parts, int(attributes["axis"]))


def _clip(run: Evaluation, node: onnx.NodeProto, attributes: Attributes) -> Tensor:
    low, high = run.given(node, 1), run.given(node, 2)
    low = torch.tensor(attributes.get("min", -math.inf)) if low is None else low
    high = torch.tensor(attributes.get("max", math.inf)) if high is None else high
    return run.values[node.input[0]].clamp(low, high)


def _hard_sigmoid(run: Evaluation, node: onnx.NodeProto, attributes: Attributes) -> Tensor:
    slope, middle = float(attributes.get("alpha", 0.2)), float(attributes.get("beta", 0.5))
    return (run.values[node.input[0]] * slope + middle).clamp(0, 1)


def _slice(run: Evaluation, node: onnx.NodeProto, attributes: Attributes) -> Tensor:
    x = run.values[node.input[0]]
    starts, ends = run.integers(node, 1, attributes, "starts"), run.integers(node, 2, attributes, "ends")
    axes = run.integers(node, 3, attributes, "axes") or range(len(starts or ()))
    steps = run.integers(node, 4, attributes, "steps") or [1] * len(starts or ())
    for start, end, axis, step in zip(starts or (), ends or (), axes, steps, strict=True):
        window = [slice(None)] * x.ndim
        window[axis] = slice(start, end, step)
        x = x[tuple(window)]
    return x


def _pad(run: Evaluation, node: onnx.NodeProto, attributes: Attributes) -> Tensor:
    pads = run.integers(node, 1, attributes, "pads") or []
    if attributes.get("mode", b"constant") != b"constant" or not all(0 <= pad <= 4096 for pad in pads):
        raise NotRecognised("an unusual Pad")
    half = len(pads) // 2
    sides = [side for axis in reversed(range(half)) for side in (pads[axis], pads[axis + half])]
    x, value = run.values[node.input[0]], run.given(node, 2)
    bounded(*(n + pads[axis] + pads[axis + half] for axis, n in enumerate(x.shape)))
    return functional.pad(x, sides, value=0.0 if value is None else float(value))


def _mean(run: Evaluation, node: onnx.NodeProto, attributes: Attributes) -> Tensor:
    axes = run.integers(node, 1, attributes, "axes")
    return run.values[node.input[0]].mean(axes, keepdim=bool(attributes.get("keepdims", 1)))


def _reshape(run: Evaluation, node: onnx.NodeProto, attributes: Attributes) -> Tensor:
    x, shape = run.values[node.input[0]], run.integers(node, 1, attributes, "shape") or []
    sizes = [x.shape[axis] if size == 0 else size for axis, size in enumerate(shape)]
    return x.reshape(sizes)


def _squeeze(run: Evaluation, node: onnx.NodeProto, attributes: Attributes) -> Tensor:
    axes = run.integers(node, 1, attributes, "axes")
    x = run.values[node.input[0]]
    return x.squeeze() if axes is None else x.squeeze(tuple(axes))


def _unsqueeze(run: Evaluation, node: onnx.NodeProto, attributes: Attributes) -> Tensor:
    x = run.values[node.input[0]]
    for axis in sorted(run.integers(node, 1, attributes, "axes") or []):
        x = x.unsqueeze(axis)
    return x


def _expand(run: Evaluation, node: onnx.NodeProto, attributes: Attributes) -> Tensor:
    x, shape = run.values[node.input[0]], run.integers(node, 1, attributes, "shape") or []
    bounded(*(max(sides) for sides in zip_longest(reversed(x.shape), reversed(shape), fillvalue=1)))
    return x * torch.ones(shape, dtype=x.dtype)


def _constant(_: Evaluation, __: onnx.NodeProto, attributes: Attributes) -> Tensor:
    (value,) = attributes.values()
    if isinstance(value, TensorProto):
        return torch.from_numpy(numpy_helper.to_array(value).copy())
    return torch.tensor(value)


def _cast(run: Evaluation, node: onnx.NodeProto, attributes: Attributes) -> Tensor:
    like = run.given(node, 1)
    kinds: dict[int | None, torch.dtype] = {
        TensorProto.FLOAT: torch.float32,
        TensorProto.INT64: torch.int64,
        TensorProto.INT32: torch.int32,
    }
    kind = kinds.get(attributes.get("to")) if like is None else like.dtype
    if kind is None:
        raise NotRecognised("a Cast to another type")
    return run.values[node.input[0]].to(kind)


def _binary(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Evaluation, onnx.NodeProto, Attributes], Tensor]:
    return lambda run, node, _: function(*_together(run, node))


def _unary(function: Callable[[Tensor], Tensor]) -> Callable[[Evaluation, onnx.NodeProto, Attributes], Tensor]:
    return lambda run, node, _: function(run.values[node.input[0]])


_OPERATORS: Mapping[str, Callable[[Evaluation, onnx.NodeProto, Attributes], Tensor]] = {
    "Conv": _convolution,
    "BatchNormalization": _batch_norm,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Add": _add,
    "Mul": _binary(torch.mul),
    "Div": _binary(torch.div),
    "Clip": _clip,
    "Relu": _unary(functional.relu),
    "Sigmoid": _unary(torch.sigmoid),
    "Swish": _unary(functional.silu),
    "Tanh": _unary(torch.tanh),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _unary(functional.hardswish),
    "Identity": _unary(lambda x: x),
    "Dropout": _unary(lambda x: x),
    "GlobalAveragePool": _unary(lambda x: x.mean((2, 3), keepdim=True)),
    "ReduceMean": _mean,
    "Flatten": lambda run, node, attributes: run.values[node.input[0]].flatten(int(attributes.get("axis", 1))),
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Expand": _expand,
    "Slice": _slice,
    "Pad": _pad,
    "Concat": _concat,
    "Shape": _shape,
    "Constant": _constant,
    "Cast": _cast,
    "CastLike": _cast,
}
_OTHERS = {  # what stands in heads of others, and has no form here
    name: f", as of {meant}, which no network exported here may have"
    for name, meant in {"Erf": "GELU", "Gelu": "GELU", "LeakyRelu": "LeakyReLU", "PRelu": "PReLU", "Elu": "ELU"}.items()
}
