"""Channel equalization: dividing a chain's channels by factors, exactly compensated in the weights around it.

Activations are quantized per tensor, so channels of a small range get few of its 255 steps. With factors that even
out the ranges, every channel gets its share (Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization
and Bias Correction"; here along residual chains, where all tensors share their factors).
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from rexnet_export.pipeline.errors import ConversionError
from rexnet_export.quantization.chains import Chain, chains
from rexnet_export.quantization.graph import GraphView, view
from rexnet_export.quantization.rewrites import ChannelScaling


def scale_channels(model: onnx.ModelProto, scaling: ChannelScaling) -> onnx.ModelProto:
    """Divide the channels of a chain by `factors`, the chain named by its widest tensor.

    Only weights and biases change; with factors that are powers of two, not even their digits:

        Conv (W, b) -> t -> Conv (V, c)      becomes      Conv (W / a, b / a) -> t / a -> Conv (V * a, c)

    where rows of W and b, and columns of V, take the factor of their channel.
    """
    graph = view(model)
    chain = next((chain for chain in chains(graph) if chain.name == scaling.tensor), None)
    if chain is None:
        raise ConversionError(f"channels of {scaling.tensor} cannot be rescaled in this network; make the table again")
    if len(scaling.factors) != chain.channels:
        raise ConversionError(
            f"{scaling.tensor} has {chain.channels} channels, its rewrite {len(scaling.factors)} factors; "
            "make the table again"
        )
    changed = _rescaled(chain, graph, np.asarray(scaling.factors, np.float64))
    scaled = onnx.ModelProto()
    scaled.CopyFrom(model)
    for tensor in scaled.graph.initializer:
        if tensor.name in changed:
            tensor.CopyFrom(numpy_helper.from_array(changed[tensor.name], tensor.name))
    return scaled


def _rescaled(chain: Chain, graph: GraphView, factors: NDArray[np.float64]) -> dict[str, NDArray[np.float32]]:
    """The parameters that differ afterwards; a convolution may both read the chain and add to it."""
    changed: dict[str, NDArray[np.float32]] = {}

    def scale(name: str, by: NDArray[np.float64], axis: int) -> None:
        real = changed.get(name, graph.constants[name])
        shape = [1] * real.ndim
        shape[axis] = -1
        with np.errstate(over="ignore"):  # refused by name below
            values = (real.astype(np.float64) * by.reshape(shape)).astype(np.float32)
        if not np.isfinite(values).all():
            raise ConversionError(f"{name} is beyond float32 once {chain.name} is rescaled; check the weights")
        if not np.array_equal(by, np.ones_like(by)):
            changed[name] = values

    for node in chain.producers:
        mine = factors[: chain.tensors[node.output[0]]]
        for name in node.input[1:]:
            scale(name, 1 / mine, 0)
    for node in chain.consumers:
        mine = factors[: chain.tensors[node.input[0]]]
        depthwise = graph.constants[node.input[1]].shape[1] != len(mine)
        scale(node.input[1], mine, 0 if depthwise else 1)
    return changed
