"""Which tensor becomes INT8 and how: decided from operator types and consumers, never from names.

Activations per tensor and asymmetric, weights per output channel and symmetric, biases int32. What an operator
bounds by itself (sigmoid, a clamp, the image) is fixed, what it only moves (Pad, Flatten, Concat) is shared, the rest
observed. A Concat moves integers too, so all that it joins has one scale: the fixed one, or that of the joined tensor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import onnx

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.quantization.calibration import sigmoid_limits as sigmoid
from rexnet_export.quantization.calibration.observe import TensorStatistics
from rexnet_export.quantization.calibration.ranges import ObservedRange, ranged
from rexnet_export.quantization.onnx.view import GraphView, attributes_of, model_sha256, view
from rexnet_export.quantization.table.params import (
    INT8_MIN,
    QuantParams,
    for_bias,
    for_weights,
    from_range,
    smallest_weight_scale,
    up_to,
)
from rexnet_export.quantization.table.table import Calibration, QuantTable, TensorEntry

WEIGHTED = frozenset({"Conv", "Gemm"})
SHARING = frozenset({"Pad", "Flatten", "Concat"})
_OBSERVED = frozenset({"Mul", "Add", "GlobalAveragePool", "Relu"})
_CLAMPS = frozenset({"Clip", "Relu"})
_OF_ACTIVATIONS = frozenset({"Mul", "Add", "Concat"})  # all inputs are; of others the first
_ON_IMAGE = frozenset({"Pad", "Transpose"})


def observed_tensors(model: onnx.ModelProto) -> tuple[str, ...]:
    """The activations whose ranges must come from calibration, in graph order."""
    return tuple(name for name, entry in plan(view(model)).items() if entry.decision == "observed")


def decide(
    model: onnx.ModelProto,
    statistics: Mapping[str, TensorStatistics],
    calibration: Calibration,
    chosen: Mapping[str, ObservedRange] = MappingProxyType({}),
) -> QuantTable:
    """The quantization table of a float model in inference form, from its weights and what was observed.

    Tensors that `chosen` does not have take the calibration's statistic.
    """
    graph = view(model)
    entries = plan(graph)
    for name, entry in entries.items():
        if entry.decision == "observed":
            entries[name] = _observed(name, chosen.get(name) or _range(name, statistics, calibration.statistic))
    for name, entry in entries.items():
        if entry.decision == "shared":
            entries[name] = replace(entry, params=shared_params(name, entries))
    table = QuantTable(model_sha256=model_sha256(model), calibration=calibration, tensors=entries)
    return rescaled(graph, table)


def rescaled(graph: GraphView, table: QuantTable) -> QuantTable:
    """The table with scales for the weights and biases that the graph has now, and its activations' as they are."""
    entries = dict(table.tensors)
    for node in graph.nodes:
        if node.op_type in WEIGHTED and entries[node.input[1]].decision != "float":
            entries |= _parameters(node, graph, entries)
    return replace(table, tensors=entries)


def plan(graph: GraphView) -> dict[str, TensorEntry]:
    """Entries in graph order; `observed`, `shared`, `weights` and `derived` ones still without parameters."""
    entries: dict[str, TensorEntry] = {}
    integers = set(graph.inputs)
    for node in graph.nodes:
        if node.input[0] in integers and node.op_type in _ON_IMAGE:
            integers.add(node.output[0])
            continue
        if node.op_type != "DequantizeLinear":
            _require_activations(node, entries)
        if node.op_type == "Concat":
            entries |= _joined(node, entries)
            continue
        for name, entry in _entries(node, graph).items():
            if name in entries:
                raise ConversionError(f"{node.op_type} {node.name} shares {name} with another node; give it its own")
            entries[name] = entry
    return entries


def _require_activations(node: onnx.NodeProto, entries: Mapping[str, TensorEntry]) -> None:
    for name in node.input if node.op_type in _OF_ACTIVATIONS else node.input[:1]:
        if name not in entries:
            raise ConversionError(
                f"{node.op_type} {node.name} reads {name}, which is no activation; rewrite the graph without it"
            )


def _entries(node: onnx.NodeProto, graph: GraphView) -> dict[str, TensorEntry]:
    output = node.output[0]
    match node.op_type:
        case "Conv" | "Gemm":
            return _parameter_plan(node, graph) | {output: _computed(node, graph)}
        case op if op in _OBSERVED:
            return {output: _computed(node, graph)}
        case op if op in SHARING:
            return {output: TensorEntry(decision="shared", source=node.input[0])}
        case "Sigmoid":
            return {output: TensorEntry(decision="fixed", params=sigmoid.PARAMS)}
        case "Clip":
            return {output: TensorEntry(decision="fixed", params=_clamped(node, graph))}
        case "DequantizeLinear":
            return {output: TensorEntry(decision="fixed", params=_image(node, graph))}
    raise ConversionError(f"{node.op_type} {node.name} has no INT8 form here; rewrite it, or export fp16 or fp32")


def _joined(node: onnx.NodeProto, entries: Mapping[str, TensorEntry]) -> dict[str, TensorEntry]:
    """One scale for all: the parts' where it is fixed and the same, else that of the whole, which is observed."""
    (whole,), parts = node.output, [entries[name] for name in node.input]
    if parts[0].decision == "fixed" and all(part == parts[0] for part in parts):
        return {whole: TensorEntry(decision="shared", source=node.input[0])}
    if any(part.decision != "observed" for part in parts):
        raise ConversionError(f"Concat {node.name} joins tensors whose scales cannot be made one; rewrite it")
    shared = TensorEntry(decision="shared", source=whole)
    return dict.fromkeys(node.input, shared) | {whole: TensorEntry(decision="observed")}


def _computed(node: onnx.NodeProto, graph: GraphView) -> TensorEntry:
    consumers = graph.consumers.get(node.output[0], ())
    if node.output[0] not in graph.outputs and len(consumers) == 1 and consumers[0].op_type in _CLAMPS:
        return TensorEntry(decision="fused", source=consumers[0].output[0])
    return TensorEntry(decision="observed")


def _parameter_plan(node: onnx.NodeProto, graph: GraphView) -> dict[str, TensorEntry]:
    attributes = attributes_of(node)
    if node.op_type == "Gemm" and (not attributes.get("transB") or {"alpha", "beta", "transA"} & attributes.keys()):
        raise ConversionError(f"Gemm {node.name} must be x @ weight.T + bias (transB=1 alone); rewrite it")
    for position in (1, 2):
        graph.constant(node, position)
    weights, bias = node.input[1:3]
    return {
        weights: TensorEntry(decision="weights"),
        bias: TensorEntry(decision="derived", source=node.input[0]),
    }


def _clamped(node: onnx.NodeProto, graph: GraphView) -> QuantParams:
    low, high = (float(graph.constant(node, position)) for position in (1, 2))
    if low != 0.0 or not high > 0.0:
        raise ConversionError(f"Clip {node.name} to [{low:g}, {high:g}] has no INT8 form here; only [0, x] has")
    return up_to(high)


def _image(node: onnx.NodeProto, graph: GraphView) -> QuantParams:
    scale, zero_point = graph.constant(node, 1), graph.constant(node, 2)
    if scale.size != 1 or zero_point.dtype != np.uint8:
        raise ConversionError(f"DequantizeLinear {node.name} must turn uint8 pixels into numbers with one scale")
    return QuantParams(scale=(float(scale.item()),), zero_point=(int(zero_point.item()) + INT8_MIN,))


def _range(name: str, statistics: Mapping[str, TensorStatistics], statistic: str) -> ObservedRange:
    if name not in statistics:
        raise ConversionError(f"{name} was not observed; calibrate on the tensors that observed_tensors names")
    return ranged(statistics[name], statistic)


def _observed(name: str, found: ObservedRange) -> TensorEntry:
    params = from_range(found.low, found.high)
    _require_finite(name, params)
    return TensorEntry(decision="observed", params=params, observed=(found.low, found.high), statistic=found.statistic)


def shared_params(name: str, entries: Mapping[str, TensorEntry]) -> QuantParams | None:
    """The parameters at the end of a chain of sharing."""
    entry = entries[name]
    return shared_params(str(entry.source), entries) if entry.decision == "shared" else entry.params


def _parameters(node: onnx.NodeProto, graph: GraphView, entries: Mapping[str, TensorEntry]) -> dict[str, TensorEntry]:
    source, weights, bias = node.input
    output = entries[node.output[0]]
    inputs, outputs = entries[source].params, output.params or entries[str(output.source)].params
    if inputs is None or outputs is None:
        raise ConversionError(f"{node.op_type} {node.name} lies between clamps that take up {source}; rewrite it")
    smallest = smallest_weight_scale(graph.constants[bias], inputs, outputs)
    params = for_weights(graph.constants[weights], smallest=smallest)
    _require_finite(weights, params)
    return {
        weights: TensorEntry(decision="weights", params=params),
        bias: TensorEntry(decision="derived", params=for_bias(inputs, params), source=source),
    }


def _require_finite(name: str, params: QuantParams) -> None:
    if not np.isfinite(params.scale).all():
        raise ConversionError(f"{name} needs a scale beyond float16's 65504; check the weights, or export fp32")
