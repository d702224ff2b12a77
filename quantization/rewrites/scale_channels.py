"""Dividing a chain's channels by factors, exactly compensated in the weights and gates around it."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.quantization.onnx.view import GraphView, view
from rexnet_export.quantization.rewrites.chains import Chain, chains, gate_factor
from rexnet_export.quantization.table.rewrites import ChannelScaling

type Changed = dict[str, NDArray[np.float32]]


def scale_channels(model: onnx.ModelProto, scaling: ChannelScaling) -> onnx.ModelProto:
    """Divide the channels of a chain by `factors`, the chain named by its widest tensor.

    Weights and biases change; with factors that are powers of two, not even their digits. Rows of W and b, and columns
    of V, take the factor of their channel:

        Conv (W, b) -> t -> Conv (V, c)      becomes      Conv (W / a, b / a) -> t / a -> Conv (V * a, c)

    Only a gate gets a node more, a depthwise 1x1 convolution with the factors as weights. It is an operator that every
    target has in INT8, on one pixel, and per-channel weights hold the factors to a part in a thousand:

        t, Sigmoid g -> Mul                  becomes      t / a, Sigmoid g -> Conv (a) -> Mul
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
    scaled = onnx.ModelProto()
    scaled.CopyFrom(model)
    factors = np.asarray(scaling.factors, np.float64)
    if (factors != 1).any():
        _store(scaled.graph, _rescaled(chain, graph, factors))
        for gate in chain.gates:
            _multiply_gate(scaled.graph, gate.output[0], factors.astype(np.float32))
    return scaled


def _store(graph: onnx.GraphProto, changed: Changed) -> None:
    for tensor in graph.initializer:
        if tensor.name in changed:
            tensor.CopyFrom(numpy_helper.from_array(changed[tensor.name], tensor.name))


def _rescaled(chain: Chain, graph: GraphView, factors: NDArray[np.float64]) -> Changed:
    """The parameters that differ afterwards; a convolution may both read the chain and add to it."""
    changed: Changed = {}

    def scale(name: str, by: NDArray[np.float64], axis: int) -> None:
        real = changed.get(name, graph.constants[name])
        shape = [1] * real.ndim
        shape[axis] = -1
        with np.errstate(over="ignore"):  # refused by name below
            values = (real.astype(np.float64) * by.reshape(shape)).astype(np.float32)
        if not np.isfinite(values).all():
            raise ConversionError(f"{name} is beyond float32 once {chain.name} is rescaled; check the weights")
        changed[name] = values

    for node in chain.producers:
        mine = factors[: chain.tensors[node.output[0]]]
        for name in node.input[1:]:
            scale(name, 1 / mine, 0)
    for node in chain.consumers:
        scale(node.input[1], factors[: chain.tensors[node.input[0]]], 1)
    return changed


def _multiply_gate(graph: onnx.GraphProto, product: str, factors: NDArray[np.float32]) -> None:
    """Put a depthwise convolution between a sigmoid and the product it goes into."""
    makers = {node.output[0]: node for node in graph.node}
    gate = gate_factor(makers[product], makers)
    assert gate is not None, "chains names only products with a sigmoid"
    name = f"{gate}.scaled"
    parameters = {f"{name}.weight": factors.reshape(-1, 1, 1, 1), f"{name}.bias": np.zeros_like(factors)}
    graph.initializer.extend(numpy_helper.from_array(value, key) for key, value in parameters.items())
    convolution = helper.make_node("Conv", [gate, *parameters], [name], name)
    geometry = {"dilations": [1, 1], "group": len(factors), "kernel_shape": [1, 1], "pads": [0] * 4, "strides": [1, 1]}
    convolution.attribute.extend(helper.make_attribute(key, value) for key, value in geometry.items())
    position = next(index for index, node in enumerate(graph.node) if node.output[0] == product)
    graph.node[position].input[:] = [name if source == gate else source for source in graph.node[position].input]
    graph.node.insert(position, convolution)
    for known in graph.value_info:
        if known.name == gate:
            graph.value_info.add().CopyFrom(known)
            graph.value_info[-1].name = name
            break
