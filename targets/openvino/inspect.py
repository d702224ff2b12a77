"""What an IR really holds: its quantization parameters, its weights and its arithmetic."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from math import prod

import numpy as np
from numpy.typing import NDArray

from rexnet_export.pipeline.artifact.metadata import float_tensors_from
from rexnet_export.pipeline.artifact.structure import Structure, islands
from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.records import Coverage, NotMeasured
from rexnet_export.quantization.table.params import INT8_MIN, QuantParams
from rexnet_export.targets.openvino.grids import (
    GRID,
    MOVES,
    REAL,
    SCALED,
    computed,
    inside_silu,
    on_grids,
    readers_of,
)
from rexnet_export.targets.openvino.ir import CLAMPS, PRODUCTS, Graph, Layer
from rexnet_export.targets.openvino.lower import INPUT, LEVELS, PIXELS

_NO_ARITHMETIC = frozenset({"Parameter", "Const", "Result", "Convert", "Transpose", "SoftMax", GRID})
_BITS = {np.dtype(np.int8): 8, np.dtype(np.int32): 32}


def stored_qparams(graph: Graph) -> dict[str, QuantParams]:
    """Scales and zero points by ONNX tensor name: what is only moved has those of what it comes from."""
    left = float_tensors_from(graph.metadata)
    found: dict[str, QuantParams] = {}
    for layer in graph.kinds(GRID, *MOVES):
        if layer.kind == GRID:
            found[layer.name] = _grid(graph, layer)
        elif layer.name not in left and not layer.name.endswith(REAL):
            sources = [found.get(name) for name in computed(graph, layer)]
            if sources and sources[0] is not None and all(params == sources[0] for params in sources):
                found[layer.name] = sources[0]
    scaled = (layer for layer in graph.kinds("Multiply") if layer.name.endswith(SCALED))
    return found | dict(_scaled(graph, layer) for layer in scaled)


def _grid(graph: Graph, layer: Layer) -> QuantParams:
    """The integers that a FakeQuantize stands for: 256 of them, the same on both sides."""
    bounds = [graph.constants[name] for name in layer.inputs[1:]]
    if len(bounds) != 4 or any(bound.shape or bound.dtype != np.float32 for bound in bounds):
        raise ConversionError(f"{layer.name} has no range for the whole tensor")
    *taken, low, high = (float(bound) for bound in bounds)
    if taken != [*(PIXELS if layer.name == INPUT else (low, high))] or layer.data["levels"] != str(LEVELS):
        raise ConversionError(f"{layer.name} is written with other parameters than it is read with")
    scale = (high - low) / (LEVELS - 1)
    zero_point = INT8_MIN - low / scale if np.isfinite([low, scale]).all() and scale > 0 else np.nan
    if not zero_point.is_integer():
        raise ConversionError(f"{layer.name} has the range {low} to {high}, in which 0 is no integer")
    return QuantParams(scale=(scale,), zero_point=(int(zero_point),))


def _scaled(graph: Graph, layer: Layer) -> tuple[str, QuantParams]:
    """The scales that a weight's or a bias' integers are multiplied with."""
    name, (_, scale) = graph.stored(layer.name), layer.inputs
    scales = graph.constants[scale].ravel().astype(np.float64)
    bits = _BITS[graph.constants[name].dtype]
    return name, QuantParams(scale=tuple(scales.tolist()), zero_point=(0,) * len(scales), axis=0, bits=bits)


def stored_parameters(graph: Graph) -> dict[str, NDArray[np.generic]]:
    """Weights and biases of every product in ONNX layout, as they lie in the file, by ONNX tensor name."""
    found: dict[str, NDArray[np.generic]] = {}
    readers = readers_of(graph)
    for product in graph.kinds(*PRODUCTS):
        weight = graph.stored(product.inputs[1])
        values = graph.constants[weight]
        groups = 1 if product.kind == "GroupConvolution" else 0
        found[weight] = values.reshape(-1, *values.shape[1 + groups :])
        (addition,) = readers[product.name]
        bias = graph.stored(addition.inputs[1])
        found[bias] = graph.constants[bias].ravel()
    return found


def count_arithmetic(graph: Graph) -> Coverage:
    """Multiply-accumulates of one image, and the layers between image and outputs that compute with real numbers.

    A plugin computes in integers what reads from grids and is read by grids, as `targets.openvino.session` asks of it.
    """
    left = _in_float(graph)
    real = {layer.name for layer in left}
    macs = {layer.name: _macs(graph, layer) for layer in graph.kinds(*PRODUCTS)}
    return Coverage(
        int8_macs=sum(amount for name, amount in macs.items() if name not in real),
        total_macs=sum(macs.values()),
        float_ops=tuple(f"{layer.name} ({layer.kind})" for layer in left),
        float_layers=tuple(graph.stored(x.inputs[1]) for x in graph.kinds(*PRODUCTS) if x.name in real),
    )


def structure(graph: Graph) -> Structure:
    """Numbers, layers and what is left in float."""
    left = _in_float(graph)
    kinds = Counter(layer.kind for layer in graph.layers.values())
    return Structure(
        tensor_bytes=len(graph.weights),
        operators={kind: count for kind, count in kinds.items() if kind not in {"Const", "Parameter", "Result"}},
        float_islands=islands((layer.inputs, [layer.name]) for layer in left),
        qdq_pairs=NotMeasured(reason="an IR says INT8 by FakeQuantize; a plugin makes integers of it when it loads it"),
        arena_bytes=NotMeasured(reason="OpenVINO plans its memory when it loads a file, and does not say how much"),
    )


def _macs(graph: Graph, product: Layer) -> int:
    weights = graph.layers[product.inputs[1]].shape
    each = weights[2 if product.kind == "GroupConvolution" else 1 :]
    return prod(product.shape[1:]) * prod(each)


def _computing(graph: Graph) -> Iterator[Layer]:
    """The layers behind the image as real numbers, up to the outputs; what makes weights of integers is none."""
    behind = {INPUT}
    for layer in graph.layers.values():  # in a file of ours, each after what it reads
        if not behind.isdisjoint(layer.inputs):
            behind.add(layer.name)
            if layer.kind not in _NO_ARITHMETIC:
                yield layer


def _in_float(graph: Graph) -> list[Layer]:
    """The layers that do not take integers and give integers, the way plugins fuse: grid - operator - (bias, SiLU or
    clamp) - grid."""
    readers, integers, fused = readers_of(graph), on_grids(graph), _fused(graph)
    ends: set[str] = set()  # whose numbers go to grids alone
    for layer in reversed([*graph.layers.values()]):  # each before what it reads
        if readers[layer.name] and all(
            reader.kind == GRID or (reader.name in fused and reader.name in ends) for reader in readers[layer.name]
        ):
            ends.add(layer.name)

    def takes_integers(layer: Layer) -> bool:
        if layer.kind in PRODUCTS and graph.constants[graph.stored(layer.inputs[1])].dtype != np.int8:
            return False
        # What stands behind an operator that it is fused into: that one answers for its own inputs.
        return layer.name in fused or integers.issuperset(computed(graph, layer))

    return [
        layer
        for layer in _computing(graph)
        if layer.name not in integers and not (layer.name in ends and takes_integers(layer))
    ]


def _fused(graph: Graph) -> set[str]:
    """The layers that plugins compute inside the operator ahead of them: clamps, biases and SiLUs."""
    found = {
        layer.name
        for layer in graph.layers.values()
        if layer.kind in CLAMPS or (layer.kind == "Add" and len(computed(graph, layer)) == 1)
    }
    for name, grid in inside_silu(graph).items():
        found |= {name, graph.layers[grid].inputs[0]}
    return found
