"""Heads as nodes: hidden layers are convolutions of the pooled 1 x 1 maps, activations what INT8 has everywhere.

An activation is written with Relu, Clip, Sigmoid and Mul; a factor or an offset that these leave over goes into the
layer behind it, so the function stays exact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from torch import nn

from rexnet_export.pipeline.core.outputs import LOGITS
from rexnet_export.pipeline.core.records import Activation
from rexnet_export.pipeline.graph.body import Body, Weights
from rexnet_export.pipeline.model.head import Head, Layers, linear_layers

HARDSWISH_OFFSET = 3.0


@dataclass(frozen=True, kw_only=True)
class Written:
    """A tensor [N, C, 1, 1] that stands for `factor` times it plus `offset`."""

    tensor: str
    factor: float = 1.0
    offset: float = 0.0

    def absorbed(self, layer: nn.Linear) -> tuple[Weights, Weights]:
        """The parameters of a layer that takes the tensor as it is."""
        weight, bias = (values.detach().cpu().double().numpy() for values in (layer.weight, layer.bias))
        return weight * self.factor, bias + self.offset * weight.sum(axis=1)


def write_heads(body: Body, head: Head, pooled: str) -> dict[str, int]:
    """Append every head on pooled maps [N, C, 1, 1]; how many numbers each output gives, the logits first."""
    return {name: _written(body, name, layers, head.activation, pooled) for name, layers in head.named()}


def _written(body: Body, name: str, layers: Layers, activation: Activation, pooled: str) -> int:
    *hidden, last = linear_layers(layers)
    value = Written(tensor=pooled)
    for index, layer in enumerate(hidden):
        weight, bias = value.absorbed(layer)
        value = _ACTIVATIONS[activation](body, f"{name}.hidden.{index}", value.tensor, weight, bias)
    flat = "flatten" if name == LOGITS else f"{name}.flatten"
    body.node("Flatten", flat, [value.tensor], axis=1)
    body.node("Gemm", name, [flat, *body.parameters(name, *value.absorbed(last))], transB=1)
    return int(last.out_features)


def _layer(body: Body, name: str, source: str, weight: Weights, bias: Weights) -> str:
    return body.pointwise(name, source, (weight[:, :, None, None], bias))


def _relu(body: Body, name: str, source: str, weight: Weights, bias: Weights) -> Written:
    return Written(tensor=body.node("Relu", f"{name}.relu", [_layer(body, name, source, weight, bias)]))


def _relu6(body: Body, name: str, source: str, weight: Weights, bias: Weights) -> Written:
    return Written(tensor=body.relu6(f"{name}.relu6", _layer(body, name, source, weight, bias)))


def _silu(body: Body, name: str, source: str, weight: Weights, bias: Weights) -> Written:
    value = _layer(body, name, source, weight, bias)
    gate = body.node("Sigmoid", f"{name}.sigmoid", [value])
    return Written(tensor=body.node("Mul", f"{name}.silu", [value, gate]))


def _hardswish(body: Body, name: str, source: str, weight: Weights, bias: Weights) -> Written:
    """x relu6(x + 3) / 6; the sum is a depthwise convolution, as no format adds a constant in INT8 alike."""
    value = _layer(body, name, source, weight, bias)
    ones = np.ones((len(bias), 1, 1, 1))
    moved = body.pointwise(f"{name}.moved", value, (ones, np.full(len(bias), HARDSWISH_OFFSET)), groups=len(bias))
    gate = body.relu6(f"{name}.gate", moved)
    return Written(tensor=body.node("Mul", f"{name}.hardswish", [value, gate]), factor=1 / 6)


def _tanh(body: Body, name: str, source: str, weight: Weights, bias: Weights) -> Written:
    """2 sigmoid(2 x) - 1."""
    doubled = _layer(body, name, source, 2 * weight, 2 * bias)
    return Written(tensor=body.node("Sigmoid", f"{name}.sigmoid", [doubled]), factor=2.0, offset=-1.0)


type _Writer = Callable[[Body, str, str, Weights, Weights], Written]
_ACTIVATIONS: Mapping[Activation, _Writer] = {
    "relu": _relu,
    "relu6": _relu6,
    "silu": _silu,
    "hardswish": _hardswish,
    "tanh": _tanh,
}
