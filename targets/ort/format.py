"""Reading ONNX Runtime's own file format: the optimized graph a `.ort` file holds, and what it computes in.

The schema's Python classes come with `onnxruntime.tools`; a file must have passed ONNX Runtime's own verifier
before it is read here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.quantization.table.params import INT8_MIN, QuantParams, for_bias
from rexnet_export.targets.ort.moves import as_moves
from rexnet_export.targets.ort.padding import own_channels, unpadded
from rexnet_export.targets.ort.schema import schema

IDENTIFIER = b"ORTM"
ALIGNMENT = 8  # the writer pads a file to its widest scalar; a cut of fewer bytes loses nothing but shows here

FLOAT_TYPES = frozenset({1, 10, 11, 16})  # TensorProto: float, float16, double, bfloat16
INT8_TYPE = 3
_DTYPES = {1: np.float32, 2: np.uint8, INT8_TYPE: np.int8, 6: np.int32, 7: np.int64}

FLOAT_CONVS = frozenset({"Conv", "FusedConv", "NhwcFusedConv"})
CONVS = FLOAT_CONVS | {"QLinearConv"}
FLOAT_PRODUCTS = frozenset({"Gemm", "FusedGemm", "MatMul", "FusedMatMul"})
INT8_PRODUCTS = frozenset({"QGemm", "QLinearMatMul"})

# Positions of (value, scale, zero point) among a node's inputs, and of the output's (scale, zero point).
_QUANTIZED_INPUTS = {
    "QLinearConv": (0, 3),
    "QGemm": (0, 3),
    "QLinearAdd": (0, 3),
    "QLinearMul": (0, 3),
    "QLinearSigmoid": (0,),
    "QLinearGlobalAveragePool": (0,),
    "DequantizeLinear": (0,),
}
_QUANTIZED_OUTPUT = {
    "QLinearConv": 6,
    "QGemm": 7,
    "QLinearAdd": 6,
    "QLinearMul": 6,
    "QLinearSigmoid": 3,
    "QLinearGlobalAveragePool": 3,
    "QuantizeLinear": 1,
}
_WEIGHT = 3
_BIAS = {"QLinearConv": 8, "QGemm": 6}
_MOVING = frozenset({"Pad", "Flatten", "Reshape", "Concat"})

# The schema's Python classes are generated without types.
type Table = Any


@dataclass(frozen=True, kw_only=True)
class Node:
    """One operator; `name` is free of what the optimizer appended to it."""

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Graph:
    """Operators in file order, constants, every value's element type, and the shapes that convolutions make.

    `channels` are the network's own of the ONNX tensors that the file has with more, of zeros.
    """

    nodes: tuple[Node, ...]
    constants: Mapping[str, NDArray[np.generic]]
    types: Mapping[str, int]
    shapes: Mapping[str, tuple[int, ...]]
    outputs: tuple[str, ...]
    channels: Mapping[str, int]


def is_for_arm(content: bytes) -> bool:
    """Whether a file's convolutions take INT8 activations, for which ONNX Runtime has fast kernels on ARM alone."""
    graph = stored_model(content).Graph()
    nodes = [graph.Nodes(i) for i in range(graph.NodesLength())]
    inputs = {node.Inputs(0) for node in nodes if node.OpType() == b"QLinearConv"}
    values = [graph.NodeArgs(i) for i in range(graph.NodeArgsLength())]
    return any(value.Name() in inputs and _tensor_type(value).ElemType() == INT8_TYPE for value in values)


def stored_model(content: bytes) -> Table:
    """The model of a `.ort` file that ONNX Runtime has verified, in the schema's own classes."""
    return schema("InferenceSession").InferenceSession.GetRootAs(bytearray(content), 0).Model()


@lru_cache(maxsize=2)  # an export reads its own two files seven times
def parse(content: bytes) -> Graph:
    """The graph of a `.ort` file that ONNX Runtime has verified, without the channels of zeros that it may have."""
    model = stored_model(content)
    graph = model.Graph()
    nodes = tuple(_node(graph.Nodes(i)) for i in range(graph.NodesLength()))
    values = [graph.NodeArgs(i) for i in range(graph.NodeArgsLength())]
    tensors = {value.Name().decode(): _tensor_type(value) for value in values if value.Type() is not None}
    stored = Graph(
        nodes=nodes,
        constants=constants(graph),
        types={name: tensor.ElemType() for name, tensor in tensors.items()},
        shapes={name: _shape(tensors[name]) for node in nodes if node.op in CONVS for name in node.outputs},
        outputs=tuple(graph.Outputs(i).decode() for i in range(graph.OutputsLength())),
        channels=own_channels(_metadata(model)),
    )
    read = as_moves(stored)
    return unpadded(read, tensor_names(read))


def _node(node: Table) -> Node:
    return Node(
        name=plain(node.Name().decode()),
        op=node.OpType().decode(),
        inputs=tuple(node.Inputs(i).decode() for i in range(node.InputsLength())),
        outputs=tuple(node.Outputs(i).decode() for i in range(node.OutputsLength())),
    )


def _metadata(model: Table) -> dict[str, str]:
    entries = [model.MetadataProps(i) for i in range(model.MetadataPropsLength())]
    return {entry.Key().decode(): entry.Value().decode() for entry in entries}


def constants(graph: Table) -> dict[str, NDArray[np.generic]]:
    """What a stored graph holds by name, with the channels of zeros that it may have."""
    return dict(_constant(graph.Initializers(i)) for i in range(graph.InitializersLength()))


def _constant(tensor: Table) -> tuple[str, NDArray[np.generic]]:
    shape = [tensor.Dims(i) for i in range(tensor.DimsLength())]
    dtype = _DTYPES.get(tensor.DataType())
    name = tensor.Name().decode()
    if dtype is None or not tensor.RawDataLength():
        raise ConversionError(f"constant {name} has element type {tensor.DataType()}, which no ReXNet holds")
    return name, np.frombuffer(tensor.RawDataAsNumpy().tobytes(), dtype).reshape(shape)


def _tensor_type(value: Table) -> Table:
    tensor_type = schema("TensorTypeAndShape").TensorTypeAndShape()
    table = value.Type().Value()
    tensor_type.Init(table.Bytes, table.Pos)
    return tensor_type


def shape_and_type(value: Table) -> tuple[tuple[int, ...], int]:
    """The declared shape and element type of one of a graph's values."""
    tensor_type = _tensor_type(value)
    return _shape(tensor_type), int(tensor_type.ElemType())


def _shape(tensor_type: Table) -> tuple[int, ...]:
    shape = tensor_type.Shape()
    return tuple(shape.Dim(i).Value().DimValue() for i in range(shape.DimLength()))


def plain(name: str) -> str:
    """A value's or node's name without what the optimizer appended to it."""
    # The layout optimizer calls the values and nodes it makes `<node>_token_<number>`.
    return re.sub(r"(_token_\d+)+$", "", name)


def is_read_back(name: str) -> bool:
    """Whether a real value is a tensor's integers read back, or what they were made of where the tensor is an end."""
    return re.search(r"(\.dq|\.float|/duplicated)$", plain(name)) is not None


def quantization(graph: Graph) -> dict[str, QuantParams]:
    """Parameters by ONNX tensor name, in the signed form the table has (uint8 zero points less 128).

    The optimizer shares equal scales and renames values, but zero points keep their initializer's name
    `<tensor>.q.zero_point`, and integers that are only moved (Pad, Flatten, Concat) their node's name `<tensor>.q`.
    """
    found: dict[str, QuantParams] = {}
    for node in graph.nodes:
        for position in _QUANTIZED_INPUTS.get(node.op, ()):
            _note(found, graph, *node.inputs[position + 1 : position + 3])
        if node.op in _QUANTIZED_OUTPUT:
            start = _QUANTIZED_OUTPUT[node.op]
            _note(found, graph, *node.inputs[start : start + 2])
        if node.op in _BIAS and len(node.inputs) > _BIAS[node.op]:
            inputs, weights = (_params(graph, *node.inputs[start : start + 2]) for start in (1, 4))
            found[_bias_of(node.inputs[_WEIGHT])] = for_bias(inputs, weights)
    return found | dict(_moved(graph, found))


def parameters(graph: Graph) -> dict[str, NDArray[np.generic]]:
    """Weights and biases by ONNX tensor name: the optimizer leaves weights' names, and every layout, as they were.

    Like zero points, uint8 weights are given in the signed form the table has: less 128.
    """
    found: dict[str, NDArray[np.generic]] = {}
    for node in graph.nodes:
        if node.op in _BIAS:
            weight, biases = node.inputs[_WEIGHT], node.inputs[_BIAS[node.op] :][:1]
        elif node.op in FLOAT_CONVS | FLOAT_PRODUCTS:
            weight, biases = node.inputs[1], node.inputs[2:3]
        else:
            continue
        stored = {weight.removesuffix(".q"): weight} | {_bias_of(weight): bias for bias in biases}
        found |= {name: _signed(graph.constants[value]) for name, value in stored.items() if value in graph.constants}
    return found


def _bias_of(weight: str) -> str:
    """The bias that belongs to a weight: its own name goes where it has at most 8 values that equal another constant's.

    ONNX Runtime keeps one of such constants (its `ConstantSharing`), float or INT32; INT8 ones are never shared.
    """
    return f"{weight.removesuffix('.q').removesuffix('.weight')}.bias"


def _signed(values: NDArray[np.generic]) -> NDArray[np.generic]:
    return (values.astype(np.int16) + INT8_MIN).astype(np.int8) if values.dtype == np.uint8 else values


def _note(found: dict[str, QuantParams], graph: Graph, scale: str, zero_point: str) -> None:
    name, params = _tensor(zero_point), _params(graph, scale, zero_point)
    if found.setdefault(name, params) != params:
        raise ConversionError(f"the file gives {name} two scales, {found[name].scale[0]:g} and {params.scale[0]:g}")


def _tensor(zero_point: str) -> str:
    return zero_point.removesuffix(".zero_point").removesuffix(".q")


def _params(graph: Graph, scale: str, zero_point: str) -> QuantParams:
    scales = graph.constants[scale]
    zero_points = np.broadcast_to(_signed(graph.constants[zero_point]), scales.shape)  # a weight may have one for all
    return QuantParams(
        scale=tuple(float(value) for value in scales.flat),
        zero_point=tuple(int(value) for value in zero_points.flat),
        axis=0 if scales.ndim else None,
    )


def _moved(graph: Graph, found: Mapping[str, QuantParams]) -> Iterator[tuple[str, QuantParams]]:
    """What Pad, Flatten and Concat make has the parameters its reader names for it."""
    for node in graph.nodes:
        if node.op not in _MOVING or not node.name.endswith(".q"):
            continue
        for reader, position in _readers(graph, node.outputs[0]):
            yield node.name.removesuffix(".q"), found[_tensor(reader.inputs[position + 2])]


def _readers(graph: Graph, value: str) -> Iterator[tuple[Node, int]]:
    """Who reads a value as a quantized operand, through what only moves it."""
    for node in graph.nodes:
        if node.op in _MOVING | {"Transpose"} and value in node.inputs:
            yield from _readers(graph, node.outputs[0])
        for position in _QUANTIZED_INPUTS.get(node.op, ()):
            if node.inputs[position] == value:
                yield node, position


def tensor_names(graph: Graph) -> dict[str, str]:
    """The ONNX tensor that each integer value between image and logits is, by the value's name.

    A value is named by the zero point of the node that makes it; one that is only moved by its node; and pixels, which
    no node quantizes where activations are uint8, by the zero point of the node that reads them.
    """
    made = {node.outputs[0]: _made(node) for node in graph.nodes}
    found = {value: name for value, name in made.items() if name}
    for node in graph.nodes:
        for position in _QUANTIZED_INPUTS.get(node.op, ()):
            found.setdefault(node.inputs[position], _tensor(node.inputs[position + 2]))
        if node.op == "Transpose" and node.inputs[0] in found:
            found[node.outputs[0]] = found[node.inputs[0]]
    return found


def _made(node: Node) -> str | None:
    if node.op in _QUANTIZED_OUTPUT:
        return _tensor(node.inputs[_QUANTIZED_OUTPUT[node.op] + 1])
    return node.name.removesuffix(".q") if node.op in _MOVING and node.name.endswith(".q") else None
