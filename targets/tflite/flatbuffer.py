"""Reading, editing and writing `.tflite` flatbuffers through LiteRT's own schema objects."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.untrusted import MOST_ARTIFACT, read_untrusted
from rexnet_export.quantization.table.params import QuantParams

if TYPE_CHECKING:
    from collections.abc import Callable

    from ai_edge_litert.schema_py_generated import BufferT, ModelT, OperatorT, TensorMapT, TensorT
    from flatbuffers import Builder

IDENTIFIER = b"TFL3"
ALIGNMENT = 16
_TYPES = {"UINT8": "u1", "INT8": "i1", "INT32": "<i4", "INT64": "<i8", "FLOAT16": "<f2", "FLOAT32": "<f4"}


def schema() -> ModuleType:
    """LiteRT's generated flatbuffer classes."""
    return import_module("ai_edge_litert.schema_py_generated")


def _names(enum: type) -> dict[int, str]:
    return {value: name for name, value in vars(enum).items() if not name.startswith("_")}


class Graph:
    """The one subgraph of a model, with operators and tensors by index, ready to be edited in place.

    Tensor indices stay valid while tensors are appended; `written` drops what no operator uses.
    """

    def __init__(self, model: ModelT) -> None:
        self.model = model
        (self.subgraph,) = model.subgraphs
        self._kinds = _names(schema().BuiltinOperator)
        self._types = _names(schema().TensorType)
        self._activations = _names(schema().ActivationFunctionType)

    @property
    def operators(self) -> list[OperatorT]:
        """Operators in execution order."""
        operators: list[OperatorT] = self.subgraph.operators
        return operators

    def kind(self, operator: OperatorT) -> str:
        """The operator's name in the schema, such as `CONV_2D`."""
        code = self.model.operatorCodes[operator.opcodeIndex]
        return self._kinds[max(code.builtinCode, code.deprecatedBuiltinCode)]

    def activation(self, operator: OperatorT) -> str:
        """What the operator clamps its own result with, such as `RELU6`; `NONE` for operators that cannot."""
        return self._activations[getattr(operator.builtinOptions, "fusedActivationFunction", 0)]

    def tensor(self, index: int) -> TensorT:
        """The tensor object at an index."""
        return self.subgraph.tensors[index]

    def name(self, index: int) -> str:
        """The tensor's name."""
        return str((self.tensor(index).name or b"").decode())

    def type(self, index: int) -> str:
        """The tensor's element type, such as `INT8`."""
        return self._types[self.tensor(index).type]

    def shape(self, index: int) -> tuple[int, ...]:
        """The tensor's shape."""
        return tuple(int(size) for size in self.tensor(index).shape)

    def is_constant(self, index: int) -> bool:
        """Whether the file holds the tensor's values."""
        data = self.model.buffers[self.tensor(index).buffer].data
        return data is not None and len(data) > 0

    def values(self, index: int) -> NDArray[np.generic]:
        """The values of a constant tensor."""
        data = np.asarray(self.model.buffers[self.tensor(index).buffer].data, np.uint8)
        return data.view(_TYPES[self.type(index)]).reshape(self.shape(index))

    def indices(self) -> Iterator[int]:
        """Every tensor index."""
        return iter(range(len(self.subgraph.tensors)))

    def quantization(self, index: int) -> QuantParams | None:
        """Scale and zero point as stored; a constant's axis is its ONNX one, 0: TFLite moves it for depthwise."""
        stored = self.tensor(index).quantization
        if stored is None or stored.scale is None or len(stored.scale) == 0:
            return None
        return QuantParams(
            scale=tuple(float(scale) for scale in stored.scale),
            zero_point=tuple(int(point) for point in (() if stored.zeroPoint is None else stored.zeroPoint)),
            axis=0 if self.is_constant(index) else None,
            bits=32 if self.type(index) == "INT32" else 8,
        )

    def set_values(self, index: int, values: NDArray[np.generic]) -> None:
        """Give a constant new values and with them its type; its shape must not change."""
        if values.shape != self.shape(index):
            raise ConversionError(f"{self.name(index)} is {self.shape(index)}, its new values are {values.shape}")
        tensor = self.tensor(index)
        tensor.type = self._type_of(values)
        tensor.buffer = self._buffer(values)

    def quantize(self, index: int, params: QuantParams, kind: str, axis: int = 0) -> None:
        """Declare a tensor's element type, scale and zero point (`axis` is TFLite's, for one pair per channel)."""
        parameters = schema().QuantizationParametersT()
        parameters.scale = np.asarray(params.scale, np.float32)
        parameters.zeroPoint = np.asarray(params.zero_point, np.int64)
        parameters.quantizedDimension = axis
        tensor = self.tensor(index)
        tensor.quantization = parameters
        tensor.type = getattr(schema().TensorType, kind)

    def add_tensor(self, name: str, kind: str, shape: Sequence[int]) -> int:
        """Append a tensor that an operator will compute; returns its index."""
        tensor = schema().TensorT()
        tensor.name, tensor.type = name.encode(), getattr(schema().TensorType, kind)
        tensor.shape, tensor.buffer, tensor.hasRank = np.asarray(shape, np.int32), 0, True
        self.subgraph.tensors.append(tensor)
        return len(self.subgraph.tensors) - 1

    def add_constant(self, name: str, values: NDArray[np.generic]) -> int:
        """Append a constant; returns its index."""
        kind = self._types[self._type_of(values)]
        index = self.add_tensor(name, kind, values.shape)
        self.tensor(index).buffer = self._buffer(values)
        return index

    def operator(self, kind: str, inputs: Sequence[int], output: int, options: str = "") -> OperatorT:
        """A new operator with one output and default options, not yet placed in the graph."""
        operator = schema().OperatorT()
        operator.opcodeIndex = self._code(kind)
        operator.inputs, operator.outputs = np.asarray(inputs, np.int32), np.asarray([output], np.int32)
        if options:
            operator.builtinOptionsType = getattr(schema().BuiltinOptions, options)
            operator.builtinOptions = getattr(schema(), f"{options}T")()
        return operator

    def set_versions(self, versions: Mapping[tuple[str, str], int]) -> None:
        """Declare the operator version that (operator, type of its first input) needs, 1 where none is listed."""
        for operator in self.operators:
            kind = self.kind(operator)
            operator.opcodeIndex = self._code(kind, versions.get((kind, self.type(operator.inputs[0])), 1))

    def _code(self, kind: str, version: int = 1) -> int:
        codes, builtin = self.model.operatorCodes, getattr(schema().BuiltinOperator, kind)
        for index, code in enumerate(codes):
            if max(code.builtinCode, code.deprecatedBuiltinCode) == builtin and code.version == version:
                return index
        code = schema().OperatorCodeT()
        # Runtimes older than the 32-bit field read the 8-bit one, which holds every operator up to 127.
        code.builtinCode, code.deprecatedBuiltinCode, code.version = builtin, min(builtin, 127), version
        codes.append(code)
        return len(codes) - 1

    def _type_of(self, values: NDArray[np.generic]) -> int:
        kinds = {np.dtype(code): kind for kind, code in _TYPES.items()}
        return int(getattr(schema().TensorType, kinds[values.dtype]))

    def _buffer(self, values: NDArray[np.generic]) -> int:
        buffer = schema().BufferT()
        buffer.data = np.frombuffer(values.tobytes(), np.uint8)
        self.model.buffers.append(buffer)
        return len(self.model.buffers) - 1

    def set_metadata(self, entries: Mapping[str, bytes]) -> None:
        """Replace all metadata entries of the file."""
        self.model.metadata = []
        for name, content in entries.items():
            entry = schema().MetadataT()
            entry.name, entry.buffer = name, self._buffer(np.frombuffer(content, np.uint8))
            self.model.metadata.append(entry)

    def metadata(self, name: str) -> bytes | None:
        """The content of a metadata entry."""
        for entry in self.model.metadata or ():
            if entry.name == name.encode():
                return bytes(np.asarray(self.model.buffers[entry.buffer].data, np.uint8))
        return None

    def set_signature(self, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> None:
        """Make these tensors the graph's input and output, under these names also in its one signature."""
        signature = schema().SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = "serving_default", 0
        signature.inputs, signature.outputs = _tensor_maps(inputs), _tensor_maps(outputs)
        self.model.signatureDefs = [signature]
        self.subgraph.inputs = np.asarray(list(inputs.values()), np.int32)
        self.subgraph.outputs = np.asarray(list(outputs.values()), np.int32)

    def written(self) -> bytes:
        """The flatbuffer's bytes, without tensors, buffers and operator codes that nothing uses."""
        import flatbuffers  # noqa: PLC0415

        self._drop_unused()
        builder = flatbuffers.Builder(sum(_size(buffer) for buffer in self.model.buffers) + 2**16)
        for buffer in self.model.buffers:
            buffer.Pack = _aligned(buffer)
        builder.Finish(self.model.Pack(builder), IDENTIFIER)
        return bytes(builder.Output())

    def _drop_unused(self) -> None:
        graph, model = self.subgraph, self.model
        ends = [*graph.inputs, *graph.outputs]
        used = sorted({int(i) for o in graph.operators for i in (*o.inputs, *o.outputs)} | {int(i) for i in ends})
        moved = {old: new for new, old in enumerate(used)}
        graph.tensors = [graph.tensors[old] for old in used]
        for holder in (graph, *graph.operators):
            holder.inputs = np.asarray([moved[int(i)] for i in holder.inputs], np.int32)
            holder.outputs = np.asarray([moved[int(i)] for i in holder.outputs], np.int32)
        for signature in model.signatureDefs or ():
            for entry in (*signature.inputs, *signature.outputs):
                entry.tensorIndex = moved[entry.tensorIndex]
        _keep_used(model, "operatorCodes", graph.operators, "opcodeIndex")
        model.buffers[0].data = None
        _keep_used(model, "buffers", [*graph.tensors, *(model.metadata or ())], "buffer", always=(0,))
        model.metadataBuffer = None


def _keep_used(model: ModelT, field: str, holders: Sequence[Any], key: str, always: tuple[int, ...] = ()) -> None:
    values = getattr(model, field)
    used = sorted({getattr(holder, key) for holder in holders} | set(always))
    moved = {old: new for new, old in enumerate(used)}
    setattr(model, field, [values[old] for old in used])
    for holder in holders:
        setattr(holder, key, moved[getattr(holder, key)])


def _tensor_maps(tensors: Mapping[str, int]) -> list[TensorMapT]:
    maps = []
    for name, index in tensors.items():
        entry = schema().TensorMapT()
        entry.name, entry.tensorIndex = name, index
        maps.append(entry)
    return maps


def _size(buffer: BufferT) -> int:
    return 0 if buffer.data is None else len(buffer.data) + ALIGNMENT


def _aligned(buffer: BufferT) -> Callable[[Builder], int]:
    """Pack a buffer at a multiple of 16 bytes: the schema demands it, the generated Python code does not do it."""

    def pack(builder: Builder) -> int:
        generated = schema()
        if buffer.data is not None:
            content = np.asarray(buffer.data, np.uint8).tobytes()
            builder.StartVector(1, len(content), ALIGNMENT)
            builder.head -= len(content)
            builder.Bytes[builder.head : builder.head + len(content)] = content
            data = builder.EndVector()
        generated.BufferStart(builder)
        if buffer.data is not None:
            generated.BufferAddData(builder, data)
        return int(generated.BufferEnd(builder))

    return pack


def read_graph(path: Path) -> Graph:
    """Read a `.tflite` file; anything but one whole graph is a `ConversionError`."""
    try:
        content = read_untrusted(path, MOST_ARTIFACT)
    except OSError as error:
        raise ConversionError(f"cannot read {path}: {error.strerror}; export the model again") from error
    if content[4:8] != IDENTIFIER:
        raise ConversionError(f"{path} is not a TFLite model ({len(content)} bytes); export the model again")
    try:
        graph = Graph(schema().ModelT.InitFromPackedBuf(content, 0))
        _check(graph)
    except (struct.error, ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ConversionError(f"{path} is damaged or incomplete ({reason}); export the model again") from error
    return graph


def _check(graph: Graph) -> None:
    """Every index in range and every constant as long as its shape says: native runtimes trust both."""
    tensors = len(graph.subgraph.tensors)
    for holder in (graph.subgraph, *graph.operators):
        for index in (*holder.inputs, *holder.outputs):
            if not 0 <= index < tensors:
                raise IndexError(f"tensor {index} of {tensors}")
    for operator in graph.operators:
        graph.kind(operator)
    for index in graph.indices():
        if graph.is_constant(index):
            graph.values(index)
