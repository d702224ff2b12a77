"""What an ONNX Runtime file computes in: multiply-accumulates by kind, and the operators that are left in float."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rexnet_export.pipeline.core.records import Coverage
from rexnet_export.targets.ort.format import FLOAT_CONVS, FLOAT_PRODUCTS, FLOAT_TYPES, INT8_PRODUCTS, Graph, Node


def count(graph: Graph) -> Coverage:
    """Multiply-accumulates of one image by kind, and the float operators between image and logits.

    Not float operators: the DequantizeLinear that makes an output, and a DequantizeLinear -> QuantizeLinear pair
    of one scale, which only moves the zero point (uint8 pixels to int8) and is exact.
    """
    macs = {node: _macs(node, graph) for node in graph.nodes}
    return Coverage(
        int8_macs=sum(amount for node, amount in macs.items() if node.op == "QLinearConv" or node.op in INT8_PRODUCTS),
        total_macs=sum(macs.values()),
        float_ops=tuple(f"{node.name} ({node.op})" for node in float_nodes(graph)),
        float_layers=tuple(node.inputs[1] for node in graph.nodes if node.op in FLOAT_CONVS | FLOAT_PRODUCTS),
    )


def _macs(node: Node, graph: Graph) -> int:
    quantized = node.op == "QLinearConv" or node.op in INT8_PRODUCTS
    if not quantized and node.op not in FLOAT_CONVS and node.op not in FLOAT_PRODUCTS:
        return 0
    weight = graph.constants[node.inputs[3 if quantized else 1]]
    if node.op in INT8_PRODUCTS or node.op in FLOAT_PRODUCTS:
        return weight.size
    positions = int(np.prod(graph.shapes[node.outputs[0]])) // weight.shape[0]
    return weight.size * positions


def float_nodes(graph: Graph) -> Iterator[Node]:
    """Operators that `count` calls float; the logits' softmax is none, as it follows the logits."""
    scores = [node for node in graph.nodes if node.op == "Softmax" and node.outputs[0] in graph.outputs]
    exempt = {*graph.outputs, *_zero_point_moves(graph), *(node.inputs[0] for node in scores)}
    for node in [node for node in graph.nodes if node not in scores]:
        computes_float = any(graph.types.get(name) in FLOAT_TYPES for name in (*node.outputs, *node.inputs[:1]))
        is_exempt = node.op in {"DequantizeLinear", "QuantizeLinear"} and not exempt.isdisjoint(node.outputs)
        if computes_float and not is_exempt:
            yield node


def _zero_point_moves(graph: Graph) -> Iterator[str]:
    for quantize in graph.nodes:
        source = quantize.inputs[0] if quantize.op == "QuantizeLinear" else None
        makers = [node for node in graph.nodes if node.op == "DequantizeLinear" and source in node.outputs]
        readers = [node for node in graph.nodes if source in node.inputs]
        if makers and len(readers) == 1 and _same_scale(graph, makers[0].inputs[1], quantize.inputs[1]):
            yield from (*makers[0].outputs, *quantize.outputs)


def _same_scale(graph: Graph, one: str, other: str) -> bool:
    return bool(np.array_equal(graph.constants[one], graph.constants[other]))
