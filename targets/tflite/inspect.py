"""What a TFLite file really holds: its quantization parameters, its weights and biases, its arithmetic."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.records import Coverage
from rexnet_export.quantization.table.params import QuantParams
from rexnet_export.targets.tflite.flatbuffer import Graph
from rexnet_export.targets.tflite.front import APPENDED, APPENDING, TOGETHER, only_appends
from rexnet_export.targets.tflite.match_onnx import PADDED
from rexnet_export.targets.tflite.stamp import IMAGE, PIXELS, QUANTIZED, WHITE

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import OperatorT

# Axes of TFLite's stored weights in ONNX's order, by the operator that reads them; the others need no change.
_TO_ONNX: Mapping[str, tuple[int, ...]] = {
    "CONV_2D": (0, 3, 1, 2),  # [out, h, w, in]
    "DEPTHWISE_CONV_2D": (3, 0, 1, 2),  # [1, h, w, out]
}
_WEIGHTED = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"})
_FLOATS = frozenset({"FLOAT16", "FLOAT32"})
_COPIES = (PADDED, PIXELS, WHITE, TOGETHER, APPENDED)


def stored_qparams(graph: Graph) -> dict[str, QuantParams]:
    """Scales and zero points by ONNX tensor name; a tensor's padded copies must have its own."""
    found, copies = {}, []
    for index in graph.indices():
        params, name = graph.quantization(index), graph.name(index)
        if params is None or name == IMAGE or name.endswith((f"{APPENDING}.weight", f"{APPENDING}.bias")):
            continue
        suffix = next((suffix for suffix in _COPIES if name.endswith(suffix)), None)
        if suffix:
            copies.append((name.removesuffix(suffix), params))
        else:
            found[name.removesuffix(QUANTIZED)] = params
    for name, params in copies:
        if name not in found or (found[name].scale, found[name].zero_point) != (params.scale, params.zero_point):
            raise ConversionError(f"the file gives {name} other parameters than a copy of it; export the model again")
    return found


def stored_parameters(graph: Graph) -> dict[str, NDArray[np.generic]]:
    """Weights and biases by ONNX tensor name and in ONNX layout, float16 ones from behind their DEQUANTIZE."""
    found: dict[str, NDArray[np.generic]] = {}
    for operator in graph.operators:
        kind = graph.kind(operator)
        if not _is_weighted(graph, operator):
            continue
        for index in (_stored(graph, index) for index in operator.inputs[1:]):
            if not graph.is_constant(index):
                raise ConversionError(f"{graph.name(index)} is computed, not stored; export the model again")
            values = graph.values(index)
            moved = kind in _TO_ONNX and values.ndim == 4
            found[graph.name(index)] = values.transpose(_TO_ONNX[kind]) if moved else values
    return found


def _stored(graph: Graph, index: int) -> int:
    """A constant itself, or the float16 one behind the DEQUANTIZE that makes it."""
    for operator in graph.operators:
        if graph.kind(operator) == "DEQUANTIZE" and operator.outputs[0] == index:
            return int(operator.inputs[0])
    return int(index)


def count_arithmetic(graph: Graph) -> Coverage:
    """Multiply-accumulates by the element types that the file declares, and the operators left in float."""
    weighted = [operator for operator in graph.operators if _is_weighted(graph, operator)]
    macs = {id(operator): _macs(graph, operator) for operator in weighted}
    return Coverage(
        int8_macs=sum(macs[id(o)] for o in weighted if _is_int8(graph, o)),
        total_macs=sum(macs.values()),
        float_ops=tuple(f"{graph.name(o.outputs[0])} ({graph.kind(o)})" for o in float_operators(graph)),
        float_layers=tuple(graph.name(_stored(graph, o.inputs[1])) for o in weighted if not _is_int8(graph, o)),
    )


def _is_weighted(graph: Graph, operator: OperatorT) -> bool:
    """Whether it multiplies by the network's weights; what only appends the image's constant channel does not."""
    return graph.kind(operator) in _WEIGHTED and not only_appends(graph, operator)


def _is_int8(graph: Graph, operator: OperatorT) -> bool:
    return {graph.type(index) for index in operator.inputs[:2]} == {"INT8"}


def _macs(graph: Graph, operator: OperatorT) -> int:
    """Weights times the positions they are applied at."""
    return math.prod(graph.shape(operator.inputs[1])) * math.prod(graph.shape(operator.outputs[0])[:-1])


def float_operators(graph: Graph) -> Iterator[OperatorT]:
    """Operators that touch float tensors, conversions of the image and of the logits, and the logits' softmax aside."""
    inputs, outputs = set(graph.subgraph.inputs), set(graph.subgraph.outputs)
    scores = [o for o in graph.operators if graph.kind(o) == "SOFTMAX" and o.outputs[0] in outputs]
    outputs |= {operator.inputs[0] for operator in scores}
    for operator in [operator for operator in graph.operators if operator not in scores]:
        kind, source, result = graph.kind(operator), operator.inputs[0], operator.outputs[0]
        converts = kind in {"QUANTIZE", "DEQUANTIZE"} and (
            source in inputs or result in outputs or graph.is_constant(source)
        )
        touched = {graph.type(index) for index in (*operator.inputs, *operator.outputs)}
        if touched & _FLOATS and not converts:
            yield operator
