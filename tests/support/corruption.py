"""Deliberate damage to finished INT8 files, through the formats' own libraries: one stored part of one tensor."""

from __future__ import annotations

import importlib
import shutil
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from rexnet_export.pipeline.core.records import ModelCard
from rexnet_export.quantization.table.params import QuantParams
from rexnet_export.targets.coreml.builder import mil_name
from rexnet_export.targets.coreml.package import MODEL as COREML_MODEL
from rexnet_export.targets.coreml.package import WEIGHTS, seal
from rexnet_export.targets.openvino.inspect import stored_qparams
from rexnet_export.targets.openvino.ir import MODEL, read_ir
from rexnet_export.targets.openvino.ir import WEIGHTS as NUMBERS
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
        case ".openvino":
            shutil.copytree(path, copy, dirs_exist_ok=True)
            _damage_openvino(copy, tensor, part, change)
        case ".tflite":
            graph = read_graph(path)
            _damage_tflite(graph, tensor, part, change)
            copy.write_bytes(with_labels(graph.written(), card))
        case ".ort":
            copy.write_bytes(_damaged_ort(path.read_bytes(), tensor, part, change))
        case ".onnx":
            model = onnx.load(path)
            name = f"{tensor}.q" if part == "values" else f"{tensor}.q.{part}"
            (stored,) = (initializer for initializer in model.graph.initializer if initializer.name == name)
            values = numpy_helper.to_array(stored)
            changed = np.asarray(change(values), values.dtype).ravel()
            changed = np.pad(changed, (0, values.size - changed.size), mode="edge")  # scales, behind the layer's own
            stored.CopyFrom(numpy_helper.from_array(changed.reshape(values.shape), name))
            copy.write_bytes(model.SerializeToString(deterministic=True))
    return copy


def _damage_coreml(package: Path, tensor: str, part: Part, change: Change) -> None:
    model = importlib.import_module("coremltools.proto.Model_pb2").Model
    weights = package / "Data" / WEIGHTS / "weight.bin"
    blob = bytearray(weights.read_bytes())
    spec = model()
    spec.ParseFromString((package / "Data" / COREML_MODEL).read_bytes())
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


def _damage_openvino(folder: Path, tensor: str, part: Part, change: Change) -> None:
    graph = read_ir(folder)
    if part == "values":
        numbers = {tensor: change(graph.constants[tensor].ravel())}
    elif tensor in graph.constants:
        numbers = {f"{tensor}.scale": change(graph.constants[f"{tensor}.scale"].ravel())}
    else:
        params = stored_qparams(graph)[tensor]
        stored = {"scale": np.float32(params.scale), "zero_point": np.int64(params.zero_point)}
        stored |= {part: change(stored[part])}
        low, high = QuantParams(**{name: tuple(values.tolist()) for name, values in stored.items()}).limits
        _, *places = graph.layers[tensor].inputs
        numbers = dict(zip(places, np.float32([low, high, low, high]), strict=True))
    _store_openvino(folder, {name: values.astype(graph.constants[name].dtype) for name, values in numbers.items()})


def _store_openvino(folder: Path, numbers: Mapping[str, Any]) -> None:
    """Constants behind all others, as OpenVINO stores equal ones once."""
    tree, blob = ElementTree.parse(folder / MODEL), bytearray((folder / NUMBERS).read_bytes())  # noqa: S314 - our own
    for layer in tree.getroot().iterfind("layers/layer"):
        if layer.attrib["name"] in numbers:
            layer.find("data").set("offset", str(len(blob)))  # type: ignore[union-attr]
            blob += numbers[layer.attrib["name"]].tobytes()
    (folder / NUMBERS).write_bytes(blob)
    tree.write(folder / MODEL)


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
