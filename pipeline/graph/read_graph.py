"""Reading a float graph of ours that lies in a folder which anybody may have written."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from pathlib import Path

import onnx
from onnx import TensorProto

from rexnet_export.pipeline.artifact.metadata import card_from
from rexnet_export.pipeline.core.errors import ConversionError, first_line
from rexnet_export.pipeline.core.records import ModelCard
from rexnet_export.pipeline.core.untrusted import MOST_ARTIFACT, read_untrusted
from rexnet_export.pipeline.graph.float_tracer import IMAGE

MOST_NODES = 20_000
MOST_ELEMENTS = 2**30  # of one tensor, of one image
ITEM_BYTES = {TensorProto.FLOAT: 4, TensorProto.INT64: 8, TensorProto.UINT8: 1}
# All that `float_graph` writes.
OPERATORS = frozenset(
    {
        *("Add", "Clip", "Conv", "DequantizeLinear", "Flatten", "Gemm"),
        *("GlobalAveragePool", "Mul", "Pad", "Relu", "Sigmoid", "Transpose"),
    }
)


def read_float_graph(path: Path, sha256: str) -> tuple[bytes, ModelCard]:
    """The content of a float graph of ours, whose digest is known, and its card.

    `ConversionError` unless it has our operators alone, its constants inside it, tensors of a bounded size, and the
    image and the outputs that its card says.
    """
    try:
        content = read_untrusted(path, MOST_ARTIFACT)
    except OSError as error:
        raise ConversionError(f"{path} cannot be read ({error.strerror}); export again") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ConversionError(f"{path} changed while it was read; export again")
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's DecodeError; its package has no types
        raise ConversionError(f"{path} is no sound ONNX file ({first_line(error)}); export again") from error
    problem = next(_problems(model), None)
    if problem is not None:
        raise ConversionError(f"{path} is no float graph that was exported here: {problem}; export again")
    try:
        card = card_from({entry.key: entry.value for entry in model.metadata_props})
    except ConversionError as error:
        raise ConversionError(f"{path}: {error}") from error
    inferred = _inferred(model, path)
    if difference := next(_differences(inferred, card), None):
        raise ConversionError(f"{path} is not what it says of itself: {difference}; export again")
    return content, card


def _problems(model: onnx.ModelProto) -> Iterator[str]:
    """What a graph of ours never has, found without believing any size in it."""
    graph = model.graph
    if model.functions or model.training_info or graph.sparse_initializer:
        yield "it has functions, training or sparse constants"
    if len(graph.node) > MOST_NODES:
        yield f"it has {len(graph.node):,} nodes"
    stored = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if node.domain or node.op_type not in OPERATORS:
            yield f"it has {node.op_type!a}"
        if node.op_type == "Pad" and not stored.issuperset(node.input[1:]):  # no inference would know its size
            yield f"it computes how far {node.name!a} pads"
    for tensor in graph.initializer:
        wanted = math.prod(tensor.dims) * ITEM_BYTES.get(tensor.data_type, 0)
        if tensor.data_location == TensorProto.EXTERNAL or len(tensor.raw_data) != wanted:
            yield f"its constant {tensor.name!a} is not all in it"
    if [value.name for value in graph.input] != [IMAGE]:
        yield f"it does not take {IMAGE!r} alone"


def _inferred(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    """The graph with the shape of every tensor; this runs nothing."""
    try:
        onnx.checker.check_model(model)
        return onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    except Exception as error:  # onnx's own errors have no common base
        raise ConversionError(f"{path} is damaged ({first_line(error)}); export again") from error


def _differences(model: onnx.ModelProto, card: ModelCard) -> Iterator[str]:
    """Where the shapes are not the card's, or larger than any network's."""
    graph = model.graph
    image = _shape(graph.input[0])
    if image != [0, *card.preprocess.shape, card.preprocess.channels]:
        yield f"its image has the shape {image}"
    outputs = {value.name: _shape(value) for value in graph.output}
    if tuple(outputs) != card.outputs:
        yield f"it gives {', '.join(map(ascii, outputs))}"
    elif not card.features and outputs[card.outputs[0]] != [0, card.answers]:
        yield f"its logits have the shape {outputs[card.outputs[0]]}, of {card.answers} answers"
    shapes = {value.name: _shape(value) for value in (*graph.value_info, *graph.output)}
    for node in graph.node:
        for name in node.output:
            images, *sizes = shapes.get(name) or [-1]
            if images != 0 or min(sizes, default=0) < 1 or math.prod(sizes) > MOST_ELEMENTS:
                yield f"{name!a} has no shape of an image classifier's"


def _shape(value: onnx.ValueInfoProto) -> list[int]:
    """Sizes by dimension, 0 where one is free, as the number of images is."""
    return [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
