"""What the float TFLite graph becomes: the quantization table stamped into it, or float16 weights; then its two ends.

Stamping sets types, scales, zero points and integers tensor by tensor, so the file holds the table itself and not
what another quantizer makes of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.outputs import LOGITS, PROBABILITIES
from rexnet_export.quantization.table.params import QuantParams
from rexnet_export.quantization.table.table import QuantTable
from rexnet_export.targets.tflite.flatbuffer import Graph
from rexnet_export.targets.tflite.front import WHITE_VALUE, eight_at_once, fits
from rexnet_export.targets.tflite.match_onnx import CORE_INPUT, Lowered

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import OperatorT

IMAGE = "image"
QUANTIZED, PIXELS, WHITE = ".quantized", ".pixels", ".white"
READ, LEFT = ".dequantized", ".unquantized"  # an INT8 tensor as float32: where float operators read it or make it
PIXEL = QuantParams(scale=(1 / 256,), zero_point=(0,))
# The operator versions that TensorFlow's own converter declares for these types; older runtimes refuse by them.
VERSIONS = {
    ("CONV_2D", "INT8"): 3,
    ("DEPTHWISE_CONV_2D", "INT8"): 3,
    ("FULLY_CONNECTED", "INT8"): 4,
    ("ADD", "INT8"): 2,
    ("MUL", "INT8"): 2,
    ("LOGISTIC", "INT8"): 2,
    ("MEAN", "INT8"): 2,
    ("CONCATENATION", "INT8"): 2,
    ("PAD", "INT8"): 2,
    ("PADV2", "INT8"): 2,
    ("DEQUANTIZE", "INT8"): 2,
    ("DEQUANTIZE", "FLOAT16"): 3,
}


def stamp(lowered: Lowered, table: QuantTable) -> None:
    """Turn the float graph into the table's INT8 graph, in place; what the table leaves in float stays float32."""
    graph, named = lowered.graph, {}
    for name, index in lowered.activations.items():
        entry = table.tensors.get(name)
        if entry is None:
            raise ConversionError(f"{name} is not in the table; make the table again")
        if entry.params is not None:
            graph.quantize(index, entry.params, "INT8")
            named[name] = entry.params
    for index, name in lowered.padded.items():
        if name in named:
            graph.quantize(index, named[name], "INT8")
    for name, parameter in lowered.parameters.items():
        params = table.tensors[name].params
        if params is None:
            continue
        integers = table.integers(name, parameter.values).transpose(parameter.permutation)
        kind = "INT32" if params.bits == 32 else "INT8"
        graph.set_values(parameter.index, integers.astype(kind.lower()))
        graph.quantize(parameter.index, params, kind, parameter.permutation.index(0))
    _convert_at_islands(graph)


def _convert_at_islands(graph: Graph) -> None:
    """Put a DEQUANTIZE in front of float operators that read INT8, a QUANTIZE behind those that give it.

    An operator computes in float where any tensor it touches is.
    """
    operators, reals = [], dict[int, int]()
    for operator in graph.operators:
        touched = (*operator.inputs, *operator.outputs)
        if all(graph.type(index) != "FLOAT32" for index in touched):
            operators.append(operator)
            continue
        inputs = [int(index) for index in operator.inputs]
        for index in inputs:
            if graph.type(index) == "INT8" and index not in reals:
                reals[index] = graph.add_tensor(f"{graph.name(index)}{READ}", "FLOAT32", graph.shape(index))
                operators.append(graph.operator("DEQUANTIZE", [index], reals[index], "DequantizeOptions"))
        operator.inputs = np.asarray([reals.get(index, index) for index in inputs], np.int32)
        operators.append(operator)
        (output,) = (int(index) for index in operator.outputs)
        if graph.type(output) == "INT8":
            real = graph.add_tensor(f"{graph.name(output)}{LEFT}", "FLOAT32", graph.shape(output))
            operator.outputs = np.asarray([real], np.int32)
            operators.append(graph.operator("QUANTIZE", [real], output, "QuantizeOptions"))
    graph.operators[:] = operators


def halve(lowered: Lowered) -> None:
    """Store parameters as float16, each behind a DEQUANTIZE, the form that every runtime reads.

    Biases too: with float32 biases beside float16 weights XNNPACK splits the graph into dozens of pieces.
    """
    graph = lowered.graph
    expanding = []
    for name, parameter in lowered.parameters.items():
        with np.errstate(over="ignore"):
            half = graph.values(parameter.index).astype(np.float16)
        if not np.isfinite(half).all():
            raise ConversionError(f"{name} exceeds float16's 65504; export fp32 or int8")
        stored = graph.add_constant(name, half)
        tensor = graph.tensor(parameter.index)
        tensor.name, tensor.buffer = f"{name}.float".encode(), 0
        expanding.append(graph.operator("DEQUANTIZE", [stored], parameter.index, "DequantizeOptions"))
    graph.operators[:0] = expanding


def attach_ends(lowered: Lowered, outputs: Sequence[str]) -> None:
    """uint8 `image` in, these float32 outputs (a classifier's scores, or a backbone's) out, around a graph in float or
    INT8.

    The file says one image; `resize_tensor_input` makes it any number.
    """
    graph = lowered.graph
    _free_batch(graph)
    image = _attach_image(graph, lowered.activations[CORE_INPUT])
    ends = {name: _attach_output(graph, name, lowered.activations[name]) for name in lowered.outputs}
    if PROBABILITIES in outputs:
        ends[PROBABILITIES] = _attach_softmax(graph, ends[LOGITS])
    graph.set_signature({IMAGE: image}, {name: ends[name] for name in outputs})
    graph.set_versions(VERSIONS)
    graph.model.description, graph.subgraph.name = "rexnet-export", "main"


def _free_batch(graph: Graph) -> None:
    """Let RESHAPE take the number of images from its input, in its constant and in its option alike."""
    for operator in graph.operators:
        if graph.kind(operator) == "RESHAPE":
            shape = np.array([-1, *graph.values(operator.inputs[1])[1:]], np.int32)
            graph.set_values(int(operator.inputs[1]), shape)
            operator.builtinOptions.newShape = shape


def _attach_output(graph: Graph, name: str, core: int) -> int:
    if graph.type(core) != "INT8":
        return core
    graph.tensor(core).name = f"{name}{QUANTIZED}".encode()
    final = graph.add_tensor(name, "FLOAT32", graph.shape(core))
    graph.operators.append(graph.operator("DEQUANTIZE", [core], final, "DequantizeOptions"))
    return final


def _attach_softmax(graph: Graph, logits: int) -> int:
    probabilities = graph.add_tensor(PROBABILITIES, "FLOAT32", graph.shape(logits))
    softmax = graph.operator("SOFTMAX", [logits], probabilities, "SoftmaxOptions")
    softmax.builtinOptions.beta = 1.0
    graph.operators.append(softmax)
    return probabilities


def _attach_image(graph: Graph, core: int) -> int:
    """Pixels times 1/256, then the constant channel that makes zero padding stand for the normalised image's zero.

    Both are exact. The channel is appended after the conversion: appended before, LiteRT needs 8 % longer for the
    whole front; a CONCATENATION with a constant is as fast, but adds size^2 values to the file.
    """
    *grid, channels = graph.shape(core)
    params, kind = graph.quantization(core), graph.type(core)
    image = graph.add_tensor(IMAGE, "UINT8", (*grid, channels - 1))
    graph.quantize(image, PIXEL, "UINT8")
    pixels = graph.add_tensor(f"{CORE_INPUT}{PIXELS}", kind, (*grid, channels - 1))
    if params is None:
        step = graph.operator("DEQUANTIZE", [image], pixels, "DequantizeOptions")
    else:
        graph.quantize(pixels, params, kind)
        step = graph.operator("QUANTIZE", [image], pixels, "QuantizeOptions")
    together = params is not None and fits(graph, pixels)
    graph.operators[:0] = [step, *(eight_at_once if together else _padded)(graph, pixels, core)]
    return image


def _padded(graph: Graph, pixels: int, core: int) -> list[OperatorT]:
    """The constant channel by PADV2, pixel by pixel."""
    params, name = graph.quantization(core), f"{CORE_INPUT}{WHITE}"
    white = np.array(WHITE_VALUE * PIXEL.scale[0])
    value = graph.add_constant(
        name, white.astype(np.float32) if params is None else params.quantize(white).astype(np.int8)
    )
    if params is not None:
        graph.quantize(value, params, graph.type(core))
    pads = graph.add_constant(f"{CORE_INPUT}.pads", np.array([[0, 0], [0, 0], [0, 0], [0, 1]], np.int32))
    return [graph.operator("PADV2", [pixels, pads, value], core, "PadV2Options")]
