"""The same integers 128 higher, as UINT8, for which ONNX Runtime has exact or fast kernels on x86."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from rexnet_export.pipeline.machine.onnx_session import open_session, session_options
from rexnet_export.quantization.table.params import INT8_MIN

PAIRWISE = frozenset({"QLinearAdd", "QLinearMul"})  # operators on two values
VALUES, ZERO_POINTS = (0, 3), (2, 5, 7)  # places of theirs
SIDES, PAIRS = ("first", "second"), 2**16
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

    Kernels of sums of products take zero points off before they round. Those of `PAIRWISE` do so in float32, and with
    other zero points some round a tie in another direction: these operators stay in INT8, between moves by 128.
    """
    changed = unsigned(model)
    kept = _differing(model, changed)
    nodes = [part for node in changed.graph.node for part in (_in_int8(node) if node.output[0] in kept else [node])]
    zeros = {node.input[place] for node in model.graph.node if node.output[0] in kept for place in ZERO_POINTS}
    for tensor in model.graph.initializer:
        if tensor.name in zeros:
            changed.graph.initializer.append(numpy_helper.from_array(numpy_helper.to_array(tensor), _int8(tensor.name)))
    grids = {ONE: np.float32(1), INT8_ZERO: np.int8(0), UINT8_ZERO: np.uint8(-INT8_MIN)}
    changed.graph.initializer.extend(numpy_helper.from_array(np.array(value), name) for name, value in grids.items())
    del changed.graph.node[:]
    changed.graph.node.extend(nodes)
    return changed


def _differing(model: onnx.ModelProto, changed: onnx.ModelProto) -> set[str]:
    """The results of those operators on two integers that give another one for any of all 65,536 pairs."""
    expected, found = _of_pairs(model, np.int8), _of_pairs(changed, np.uint8)
    return {name for name, values in expected.items() if np.any(values.astype(np.int16) - INT8_MIN != found[name])}


def _of_pairs(model: onnx.ModelProto, kind: type[np.int8 | np.uint8]) -> dict[str, NDArray[np.generic]]:
    """What each of `PAIRWISE` gives, by its result's name, for all pairs of integers of this type."""
    nodes = []
    for node in model.graph.node:
        if node.op_type in PAIRWISE:
            nodes.append(onnx.NodeProto())
            nodes[-1].CopyFrom(node)
            for place, name in zip(VALUES, SIDES, strict=True):
                nodes[-1].input[place] = name
    if not nodes:
        return {}
    element = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    read = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "pairs",
        [helper.make_tensor_value_info(name, element, [PAIRS]) for name in SIDES],
        [helper.make_tensor_value_info(node.output[0], element, [PAIRS]) for node in nodes],
        [tensor for tensor in model.graph.initializer if tensor.name in read],
    )
    probe = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    session = open_session(probe.SerializeToString(), "the operators on two integers", session_options())
    sides = (np.indices((256, 256)).reshape(2, PAIRS) + np.iinfo(kind).min).astype(kind)
    names = [node.output[0] for node in nodes]
    return dict(zip(names, session.run(names, dict(zip(SIDES, sides, strict=True))), strict=True))


def _in_int8(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """An operator on two UINT8 values that computes them as INT8."""
    (result,) = node.output
    signed = onnx.NodeProto()
    signed.CopyFrom(node)
    moves = []
    for place in VALUES:
        signed.input[place] = f"{result}.{place}.int8"
        moves += _moved(node.input[place], UINT8_ZERO, signed.input[place], INT8_ZERO)
    for place in ZERO_POINTS:
        signed.input[place] = _int8(node.input[place])
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
