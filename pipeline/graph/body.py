"""A float ONNX graph in the making: nodes, each named after its one output tensor, and initializers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from torch import nn

from rexnet_export.pipeline.core.errors import ConversionError

type Weights = NDArray[np.float64]

RELU6_MAX = 6.0


class Body:
    """Nodes and initializers in the order they are written."""

    def __init__(self, *, relu6_only: bool) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._relu6_only = relu6_only
        self._relu6_bounds = [
            self.constant("relu6.min", np.float32(0)),
            self.constant("relu6.max", np.float32(RELU6_MAX)),
        ]

    def constant(self, name: str, value: NDArray[np.generic] | np.generic) -> str:
        """Store an initializer; returns its name."""
        array = np.asarray(value)
        if not np.isfinite(array).all():
            raise ConversionError(
                f"{name} is not finite once BatchNorm and normalisation are folded; use another checkpoint"
            )
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def node(self, op: str, name: str, inputs: Sequence[str], **attributes: int | str | Sequence[int]) -> str:
        """Append a node with one output of the same name; returns that name."""
        node = helper.make_node(op, inputs, [name], name)
        node.attribute.extend(helper.make_attribute(key, value) for key, value in sorted(attributes.items()))
        self.nodes.append(node)
        return name

    def parameters(self, name: str, weight: Weights, bias: Weights) -> list[str]:
        """Store a node's weight and bias, rounded to float32 once."""
        with np.errstate(over="ignore"):  # refused by name when it is stored
            return [
                self.constant(f"{name}.weight", weight.astype(np.float32)),
                self.constant(f"{name}.bias", bias.astype(np.float32)),
            ]

    def conv(self, name: str, source: str, folded: tuple[Weights, Weights], conv: nn.Conv2d) -> str:
        """A convolution with the geometry of `conv` and already folded parameters."""
        (down, across), strides = conv.kernel_size, conv.stride
        above, left = (int(padding) for padding in conv.padding)
        return self.node(
            "Conv",
            name,
            [source, *self.parameters(name, *folded)],
            kernel_shape=[down, across],
            strides=list(strides),
            pads=[above, left, above, left],
            dilations=[1, 1],
            group=conv.groups,
        )

    def pointwise(self, name: str, source: str, folded: tuple[Weights, Weights], groups: int = 1) -> str:
        """A 1 x 1 convolution of `folded` parameters [outputs, inputs, 1, 1] and [outputs]."""
        parameters = self.parameters(name, *folded)
        geometry = {"kernel_shape": [1, 1], "strides": [1, 1], "pads": [0, 0, 0, 0], "dilations": [1, 1]}
        return self.node("Conv", name, [source, *parameters], group=groups, **geometry)

    def relu6(self, name: str, source: str) -> str:
        """min(max(x, 0), 6)."""
        return self.node("Clip", name, [source, *self._relu6_bounds])

    def activation(self, source: str) -> str:
        """The variant's own activation: SiLU as x * sigmoid(x), in ReXNet-lite ReLU6."""
        if self._relu6_only:
            return self.relu6(f"{source}.relu6", source)
        sigmoid = self.node("Sigmoid", f"{source}.sigmoid", [source])
        return self.node("Mul", f"{source}.silu", [source, sigmoid])
