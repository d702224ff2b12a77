"""The same integers 128 higher, as UINT8, for which ONNX Runtime has exact or fast kernels on x86."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from rexnet_export.quantization.table.params import INT8_MIN

ADD = "QLinearAdd"
ADD_VALUES, ADD_ZERO_POINTS = (0, 3), (2, 5, 7)
ONE, INT8_ZERO, UINT8_ZERO = "one", "zero.int8", "zero.uint8"  # scale and zero points of whole numbers


def unsigned(model: onnx.ModelProto) -> onnx.ModelProto:
    """A network with its INT8 constants, weights and zero points alike, 128 higher as UINT8.

    Where activations are UINT8 it gives the same logits, from sums that no x86 loses. Where they are INT8 they become
    UINT8 with it; see `unsigned_activations`.
    """
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for tensor in changed.graph.initializer:
        if tensor.data_type == TensorProto.INT8:
            values = numpy_helper.to_array(tensor).astype(np.int16) - INT8_MIN
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.uint8), tensor.name))
    return changed


def unsigned_activations(model: onnx.ModelProto) -> onnx.ModelProto:
    """A network of INT8 activations in operators on integers with all of these 128 higher: the same logits.

    QLinearAdd alone stays in INT8, between moves by 128: its kernel adds zero points up in float32, so that with
    others it would round some ties in another direction.
    """
    changed = unsigned(model)
    sums = [node for node in model.graph.node if node.op_type == ADD]
    kept = {node.input[place] for node in sums for place in ADD_ZERO_POINTS}
    for tensor in model.graph.initializer:
        if tensor.name in kept:
            changed.graph.initializer.append(numpy_helper.from_array(numpy_helper.to_array(tensor), _int8(tensor.name)))
    grids = {ONE: np.float32(1), INT8_ZERO: np.int8(0), UINT8_ZERO: np.uint8(-INT8_MIN)}
    changed.graph.initializer.extend(numpy_helper.from_array(np.array(value), name) for name, value in grids.items())
    nodes = [part for node in changed.graph.node for part in (_in_int8(node) if node.op_type == ADD else [node])]
    del changed.graph.node[:]
    changed.graph.node.extend(nodes)
    return changed


def _in_int8(add: onnx.NodeProto) -> list[onnx.NodeProto]:
    """A QLinearAdd of UINT8 values that adds them up as INT8."""
    (result,) = add.output
    signed = onnx.NodeProto()
    signed.CopyFrom(add)
    moves = []
    for place in ADD_VALUES:
        signed.input[place] = f"{result}.{place}.int8"
        moves += _moved(add.input[place], UINT8_ZERO, signed.input[place], INT8_ZERO)
    for place in ADD_ZERO_POINTS:
        signed.input[place] = _int8(add.input[place])
    signed.output[0] = _int8(result)
    return [*moves, signed, *_moved(signed.output[0], INT8_ZERO, result, UINT8_ZERO)]


def _moved(source: str, own: str, result: str, other: str) -> list[onnx.NodeProto]:
    """Integers with one zero point as those with another, by way of whole numbers in float32, which has all of them."""
    whole = f"{result}.whole"
    return [
        helper.make_node("DequantizeLinear", [source, ONE, own], [whole], whole),
        helper.make_node("QuantizeLinear", [whole, ONE, other], [result], f"{result}.moved"),
    ]


def _int8(name: str) -> str:
    return f"{name}.int8"
