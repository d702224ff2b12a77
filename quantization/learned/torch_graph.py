"""A float ONNX graph of ours as steps that torch can run, one for every node and under the node's tensor names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor
from torch.nn import functional

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.quantization.onnx.view import GraphView, attributes_of
from rexnet_export.quantization.scheme.scheme import WEIGHTED


@dataclass(frozen=True, kw_only=True)
class Step:
    """Computes `output` from the tensors `inputs` and, of a convolution or product, its `parameters` (weight, bias)."""

    op: str
    output: str
    inputs: tuple[str, ...]
    parameters: tuple[str, ...]
    geometry: Mapping[str, Any]
    compute: Callable[..., Tensor]


def steps(graph: GraphView) -> tuple[Step, ...]:
    """Steps in execution order; an operator the float graphs do not have is a `ConversionError`."""
    return tuple(_step(node, graph) for node in graph.nodes)


def last_uses(graph: tuple[Step, ...]) -> tuple[frozenset[str], ...]:
    """For each step the tensors that no later step reads: what may be forgotten after it."""
    read: set[str] = set()
    found: list[frozenset[str]] = []
    for step in reversed(graph):
        found.append(frozenset(step.inputs) - read)
        read.update(step.inputs)
    return tuple(reversed(found))


def _step(node: onnx.NodeProto, graph: GraphView) -> Step:
    attributes = attributes_of(node)
    weighted = node.op_type in WEIGHTED
    return Step(
        op=node.op_type,
        output=node.output[0],
        inputs=tuple(name for name in node.input if name not in graph.constants),
        parameters=tuple(node.input[1:3]) if weighted else (),
        geometry=_geometry(node, attributes) if node.op_type == "Conv" else {},
        compute=_computation(node, attributes, graph),
    )


def _computation(node: onnx.NodeProto, attributes: Mapping[str, Any], graph: GraphView) -> Callable[..., Tensor]:
    if node.op_type in _PLAIN:
        return _PLAIN[node.op_type]
    if node.op_type in _SHAPED:
        return _SHAPED[node.op_type](node, attributes, graph)
    raise ConversionError(f"{node.op_type} {node.name} is no operator that can be trained here; rewrite it")


def _convolution(node: onnx.NodeProto, attributes: Mapping[str, Any], _: GraphView) -> Callable[..., Tensor]:
    geometry = _geometry(node, attributes)
    return lambda x, weight, bias: functional.conv2d(x, weight, bias, **geometry)


def _clamp(node: onnx.NodeProto, _: Mapping[str, Any], graph: GraphView) -> Callable[..., Tensor]:
    low, high = (float(graph.constant(node, position)) for position in (1, 2))
    return lambda x: x.clamp(low, high)


def _padding(node: onnx.NodeProto, _: Mapping[str, Any], graph: GraphView) -> Callable[..., Tensor]:
    pads = _trailing(graph.constant(node, 1).tolist())
    value = graph.constant(node, 2).item() if len(node.input) > 2 else 0
    return lambda x: functional.pad(x, pads, value=value)


def _from_pixels(node: onnx.NodeProto, _: Mapping[str, Any], graph: GraphView) -> Callable[..., Tensor]:
    scale, zero_point = (graph.constant(node, position).item() for position in (1, 2))
    return lambda x: (x.float() - zero_point) * scale


def _geometry(node: onnx.NodeProto, attributes: Mapping[str, Any]) -> dict[str, Any]:
    before, after = attributes["pads"][:2], attributes["pads"][2:]
    if before != after:
        raise ConversionError(f"Conv {node.name} is padded by {before} and {after}; give both ends the same")
    return {
        "stride": tuple(attributes["strides"]),
        "padding": tuple(before),
        "dilation": tuple(attributes["dilations"]),
        "groups": attributes["group"],
    }


def _trailing(pads: list[int]) -> list[int]:
    """ONNX lists what is added before every axis, then after; torch both for each axis, the last one first."""
    befores, afters = np.array_split(pads, 2)
    return [int(count) for pair in zip(befores[::-1], afters[::-1], strict=True) for count in pair]


_PLAIN: Mapping[str, Callable[..., Tensor]] = {
    "Gemm": functional.linear,
    "Sigmoid": torch.sigmoid,
    "Relu": torch.relu,
    "Mul": torch.mul,
    "Add": torch.add,
    "GlobalAveragePool": lambda x: x.mean((2, 3), keepdim=True),
    "Flatten": lambda x: x.flatten(1),
}
_SHAPED: Mapping[str, Callable[[onnx.NodeProto, Mapping[str, Any], GraphView], Callable[..., Tensor]]] = {
    "Conv": _convolution,
    "Clip": _clamp,
    "Pad": _padding,
    "DequantizeLinear": _from_pixels,
    "Transpose": lambda _, attributes, __: lambda x: x.permute(attributes["perm"]),
    "Concat": lambda _, attributes, __: lambda *parts: torch.cat(parts, attributes["axis"]),
}
