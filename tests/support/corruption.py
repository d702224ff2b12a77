"""Deliberate damage to finished INT8 files, through the formats' own libraries: one stored part of one tensor."""

from __future__ import annotations

import importlib
import shutil
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rexnet_export.pipeline.core.records import ModelCard
from rexnet_export.targets.coreml.builder import mil_name
from rexnet_export.targets.coreml.package import MODEL, WEIGHTS, seal
from rexnet_export.targets.ort import format as ort_format
from rexnet_export.targets.tflite.flatbuffer import Graph, read_graph
from rexnet_export.targets.tflite.metadata import with_labels
from rexnet_export.targets.tflite.stamp import QUANTIZED

type Part = Literal["scale", "zero_point", "values"]
type Change = Callable[[NDArray[Any]], NDArray[Any]]


def damage(path: Path, folder: Path, tensor: str, part: Part, change: Change, card: ModelCard) -> Path:
    """A copy of a file in which every place that stores this part of this ONNX tensor is changed alike."""
    copy = folder / path.name
    match path.suffix:
        case ".mlpackage":
            shutil.copytree(path, copy, dirs_exist_ok=True)
            _damage_coreml(copy, tensor, part, change)
        case ".tflite":
            graph = read_graph(path)
            _damage_tflite(graph, tensor, part, change)
            copy.write_bytes(with_labels(graph.written(), card))
        case ".ort":
            copy.write_bytes(_damaged_ort(path.read_bytes(), tensor, part, change))
    return copy


def _damage_coreml(package: Path, tensor: str, part: Part, change: Change) -> None:
    model = importlib.import_module("coremltools.proto.Model_pb2").Model
    weights = package / "Data" / WEIGHTS / "weight.bin"
    blob = bytearray(weights.read_bytes())
    spec = model()
    spec.ParseFromString((package / "Data" / MODEL).read_bytes())
    block = spec.mlProgram.functions["main"].block_specializations["CoreML7"]
    for value in list(_coreml_places(block.operations, mil_name(tensor), part)):
        dtype = {10: "<f2", 11: "<f4", 21: "i1"}[value.type.tensorType.dataType]
        if value.HasField("blobFileValue"):
            _, _, size, start = struct.unpack_from("<IIQQ", blob, value.blobFileValue.offset)
            stored = np.frombuffer(bytes(blob[start : start + size]), dtype)
            blob[start : start + size] = change(stored).astype(dtype).tobytes()
        else:
            stored = np.frombuffer(value.immediateValue.tensor.bytes.values, dtype)
            value.immediateValue.tensor.bytes.values = change(stored).astype(dtype).tobytes()
    weights.write_bytes(blob)
    seal(package, spec)


def _coreml_places(operations: Sequence[Any], name: str, part: Part) -> Iterator[Any]:
    constants = {op.outputs[0].name: op.attributes["val"] for op in operations if op.type == "const"}
    if part == "values" and name in constants:
        yield constants[name]
    for op in operations:
        if op.type == "constexpr_affine_dequantize" and op.outputs[0].name == name:
            yield op.attributes["quantized_data" if part == "values" else part]
        elif (op.type == "quantize" and op.outputs[0].name == f"{name}__q") or (
            op.type == "dequantize" and op.inputs["input"].arguments[0].name == f"{name}__q"
        ):
            yield constants[op.inputs[part].arguments[0].name]


def _damage_tflite(graph: Graph, tensor: str, part: Part, change: Change) -> None:
    for index in graph.indices():
        if graph.name(index).removesuffix(".padded").removesuffix(QUANTIZED) != tensor:
            continue
        stored = graph.tensor(index).quantization
        match part:
            case "scale":
                stored.scale = change(np.asarray(stored.scale, np.float32))
            case "zero_point":
                stored.zeroPoint = change(np.asarray(stored.zeroPoint, np.int64))
            case "values":
                values = graph.values(index)
                graph.set_values(index, change(values).astype(values.dtype))


def _damaged_ort(content: bytes, tensor: str, part: Part, change: Change) -> bytes:
    edited = bytearray(content)
    graph = ort_format.parse(content)
    name = f"{tensor}.q" if part == "values" else f"{tensor}.q.zero_point"
    if part == "scale":
        # The optimizer shares equal scales, so a scale is found in front of the zero point that names the tensor.
        ends = [(node, node.inputs.index(name)) for node in graph.nodes if name in node.inputs[1:]]
        name = next(node.inputs[place - 1] for node, place in ends if node.op.startswith("QLinear"))
    schema = importlib.import_module("ort_flatbuffers_py.fbs.InferenceSession").InferenceSession
    stored = schema.GetRootAs(edited, 0).Model().Graph()
    initializers = [stored.Initializers(i) for i in range(stored.InitializersLength())]
    (place,) = (initializer for initializer in initializers if initializer.Name().decode() == name)
    view = place.RawDataAsNumpy().view(graph.constants[name].dtype)  # of `edited` itself
    view[:] = change(view.copy())
    return bytes(edited)
