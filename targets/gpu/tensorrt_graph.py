"""Our graphs as TensorRT takes them: no operator on uint8, and INT8 with zero points of 0 and biases in float."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.quantization.onnx.view import model_sha256
from rexnet_export.quantization.scheme.insert_qdq import insert_qdq
from rexnet_export.quantization.table.params import WEIGHT_MAX, QuantParams
from rexnet_export.quantization.table.table import QuantTable, TensorEntry

FRONT = ("Pad", "Transpose", "DequantizeLinear")


def symmetric_graph(model: onnx.ModelProto, table: QuantTable) -> onnx.ModelProto:
    """The QDQ graph of a table's float model with every activation symmetric: a range's larger side is 127 steps.

    A range that ends at 0 so loses half of its steps: this is not the table any more, and its accuracy is its own.
    Weights are the table's, to the digit; biases are float, with the table's corrections. Every operator has its own Q
    and DQ. `ConversionError` where table and model do not belong together.
    """
    if (digest := model_sha256(model)) != table.model_sha256:
        raise ConversionError(f"the table belongs to model {table.model_sha256[:12]}, not to {digest[:12]}")
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for tensor in changed.graph.initializer:
        entry = table.tensors.get(tensor.name)
        if entry is not None and entry.correction is not None:
            real = numpy_helper.to_array(tensor).astype(np.float64) + np.asarray(entry.correction)
            tensor.CopyFrom(numpy_helper.from_array(real.astype(np.float32), tensor.name))
    own = replace(
        table,
        model_sha256=model_sha256(changed),
        tensors={name: _symmetric(entry) for name, entry in table.tensors.items()},
    )
    return without_uint8(insert_qdq(changed, own, "int8", moved=False))


def _symmetric(entry: TensorEntry) -> TensorEntry:
    params = entry.params
    if params is None or (params.axis is not None and params.bits == 8):
        return entry
    if params.bits == 32:
        return replace(entry, params=None)
    scale = max(map(abs, params.limits)) / WEIGHT_MAX
    return replace(entry, params=QuantParams(scale=(scale,), zero_point=(0,)))


def without_uint8(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with its image made float32 at once: TensorRT does nothing with uint8 but cast it."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph = changed.graph
    (image,) = graph.input
    pad, transpose, real = (
        next(node for node in graph.node if node.op_type == kind and node.name.startswith("input")) for kind in FRONT
    )
    scale, level = real.input[1], pad.input[2]
    for tensor in graph.initializer:
        if tensor.name == level:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), level))
    pad.input[0] = f"{image.name}.real"
    cast = helper.make_node("Cast", [image.name], [pad.input[0]], pad.input[0], to=TensorProto.FLOAT)
    product = helper.make_node("Mul", [transpose.output[0], scale], [real.output[0]], real.name)
    nodes = [cast, *(product if node is real else node for node in graph.node)]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    changed = onnx.shape_inference.infer_shapes(changed, check_type=True, strict_mode=True)
    onnx.checker.check_model(changed, full_check=True)
    return changed
