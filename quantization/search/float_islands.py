"""Islands of float in an INT8 network: closed, so that what leaves one is quantized where it leaves.

A table entry with the decision `float` has no parameters. A node whose output is float computes in float, and so does a
convolution or product whose weights are; what it reads in INT8 is dequantized in front of it:

    a (INT8) -> dequantize -> Conv, float weights -> b (float) -> Sigmoid, Mul -> c (INT8): quantized where it leaves
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import onnx

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.quantization.onnx.view import GraphView, view
from rexnet_export.quantization.scheme.scheme import SHARING, WEIGHTED
from rexnet_export.quantization.table.table import QuantTable, TensorEntry


def with_islands(model: onnx.ModelProto, table: QuantTable, reasons: Mapping[str, str]) -> QuantTable:
    """The table with the nodes of `reasons`, by output name, in float; each float entry says its node's reason.

    What only moves tensors joins them where all that it touches is float, and stays in INT8 elsewhere.
    """
    graph = view(model)
    inside = _closed(graph, reasons.keys(), table)
    entries = dict(table.tensors)
    for node in graph.nodes:
        name = node.output[0]
        if name not in inside:
            continue
        entry = TensorEntry(decision="float", reason=reasons[name])
        if node.op_type in WEIGHTED:
            entries |= dict.fromkeys(node.input[1:3], entry)
        if entries[name].decision != "fused" and _stays_inside(name, graph, inside):
            entries[name] = entry
    return replace(table, tensors=entries)


def _closed(graph: GraphView, names: Collection[str], table: QuantTable) -> frozenset[str]:
    """The nodes that can be in float: no island ends with one that moves tensors, as that quantizes nothing."""
    makers = {node.output[0]: node for node in graph.nodes}
    inside = {name for name in names if makers[name].op_type != "DequantizeLinear"}
    while ends := [
        name
        for name in inside
        if makers[name].op_type in SHARING and not _moves_float(makers[name], graph, inside, table)
    ]:
        inside.difference_update(ends)
    return frozenset(inside)


def _moves_float(node: onnx.NodeProto, graph: GraphView, inside: Collection[str], table: QuantTable) -> bool:
    name = node.output[0]
    if not _stays_inside(name, graph, inside):
        return False
    # What shares the parameters of this node's result has none of its own to be INT8 with.
    dependent = [source for source in node.input if source in table.tensors and table.tensors[source].source == name]
    return all(source in inside and _stays_inside(source, graph, inside) for source in dependent)


def _stays_inside(name: str, graph: GraphView, inside: Collection[str]) -> bool:
    """Whether nothing outside reads a tensor."""
    return name not in graph.outputs and all(reader.output[0] in inside for reader in graph.consumers.get(name, ()))


def _is_float(name: str, table: QuantTable) -> bool:
    """Whether a tensor is float itself, or is taken up by a clamp whose result is."""
    entry = table.tensors.get(name)
    if entry is not None and entry.decision == "fused" and entry.source is not None:
        entry = table.tensors[entry.source]
    return entry is not None and entry.decision == "float"


def check_islands(graph: GraphView, table: QuantTable) -> None:
    """Refuse float tensors that no artifact could hold: an INT8 layer beside them, or a network's end among them."""
    for node in graph.nodes:
        name = node.output[0]
        if name not in table.tensors:
            continue
        if (node.op_type == "DequantizeLinear" or name in graph.outputs) and _is_float(name, table):
            raise ConversionError(f"{name} is an end of the network, which is always INT8; correct its float entry")
        if node.op_type in WEIGHTED:
            _check_layer(node, table)
        elif node.op_type in SHARING and not _is_float(name, table):
            _refuse_float(node, [source for source in node.input if source in table.tensors], table)
        entry = table.tensors[name]
        if entry.decision == "shared" and _is_float(str(entry.source), table):
            raise ConversionError(f"{name} shares the parameters of {entry.source}, which is float; make both the same")


def _check_layer(node: onnx.NodeProto, table: QuantTable) -> None:
    weights, bias = node.input[1:3]
    if _is_float(weights, table) != _is_float(bias, table):
        raise ConversionError(f"{weights} and {bias} must both be float or both be integers; correct the table")
    if not _is_float(weights, table):
        _refuse_float(node, [node.input[0], node.output[0]], table)


def _refuse_float(node: onnx.NodeProto, names: list[str], table: QuantTable) -> None:
    for name in names:
        if _is_float(name, table):
            raise ConversionError(
                f"{name} is float but {node.op_type} {node.output[0]}, which touches it, is INT8; make both the same"
            )
