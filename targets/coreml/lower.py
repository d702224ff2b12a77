"""ONNX graph to MIL program: one small function per ONNX operator.

Both graphs of the pipeline pass through here. The float graph becomes a float program of one data type; the QDQ
graph keeps its integers: `quantize`/`dequantize` around activations, `constexpr_affine_dequantize` for weights,
both with the very scales and zero points of the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.records import RGB
from rexnet_export.quantization.onnx.view import attributes_of
from rexnet_export.targets.coreml.builder import INPUT, PIXEL_SCALE, WHITE, Lowering, mil_name
from rexnet_export.targets.coreml.compress import WeightForm

if TYPE_CHECKING:
    from coremltools.converters.mil.mil import Program, Var


def lower(model: onnx.ModelProto, *, half: bool, classifies: bool, weights: WeightForm = "real") -> Program:
    """A MIL program for iOS 17, or 18 where weights are palettes: `image` float32 [1, C, H, W] -> outputs in float32.

    An RGB image comes as pixel / 256, of which coremltools makes operations; other arrays are 0 to 255.

    With `classifies` their first, the logits, also give `probabilities`. `half` computes in float16; scales of a QDQ
    graph are stored in the same type. `weights` is how a float graph's are stored.
    """
    from coremltools import target  # noqa: PLC0415
    from coremltools.converters.mil import Builder  # noqa: PLC0415

    height, width, channels = (d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim[1:])
    body = _body(model.graph)
    system = target.iOS18 if weights == "palettes" else target.iOS17

    @Builder.program(input_specs=[Builder.TensorSpec(shape=(1, channels, height, width))], opset_version=system)  # type: ignore[untyped-decorator]
    def program(image: Var) -> tuple[Var, ...]:
        lowering = Lowering(Builder, model.graph, np.float16 if half else np.float32, weights)
        if channels != RGB:
            image = Builder.mul(x=image, y=np.float32(PIXEL_SCALE), name="image__scaled")
        lowering.start(image)
        for node in body:
            _translate(lowering, node)
        return lowering.finish(classifies=classifies)

    lowered: Program = program
    return lowered


def _body(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes behind `input`; the three that make it from the image must be those the program replaces."""
    nodes = list(graph.node)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    found = [
        (node.op_type, node.output[0], *(constants[name].tolist() for name in node.input if name in constants))
        for node in nodes[:3]
    ]
    expected = [
        ("Pad", f"{INPUT}.constant_channel", [0, 0, 0, 0, 0, 0, 0, 1], WHITE),
        ("Transpose", f"{INPUT}.nchw"),
        ("DequantizeLinear", INPUT, PIXEL_SCALE, 0),
    ]
    if found != expected:
        raise ConversionError(f"the graph starts with {found}, not as this exporter's do; export the model again")
    return nodes[3:]


def _translate(lowering: Lowering, node: onnx.NodeProto) -> None:
    """Translate one node; its inputs have been translated."""
    if node.op_type not in OPERATORS:
        known = ", ".join(sorted(OPERATORS))
        raise ConversionError(f"node {node.name!r} has operator {node.op_type}; Core ML lowering knows {known}")
    OPERATORS[node.op_type](lowering, node)


def _quantize(lowering: Lowering, node: onnx.NodeProto) -> None:
    source, scale, zero_point = node.input
    zero = _int8(lowering.constants[zero_point], zero_point)
    lowering.quantize(lowering.value(source), node.output[0], lowering.stored_scale(scale), zero)


def _dequantize(lowering: Lowering, node: onnx.NodeProto) -> None:
    integers, scale, zero_point = node.input
    output = node.output[0]
    values = lowering.constants.get(integers)
    if values is None:
        lowering.integers[output] = integers
    elif values.dtype == np.int32:
        lowering.constants[output] = values * lowering.constants[scale]  # MIL biases are real numbers
    else:
        lowering.variables[output] = lowering.mb.constexpr_affine_dequantize(
            quantized_data=_int8(values, integers),
            scale=lowering.stored_scale(scale),
            zero_point=_int8(lowering.constants[zero_point], zero_point),
            axis=attributes_of(node)["axis"],
            name=mil_name(integers.removesuffix(".q")),
        )


def _int8(values: NDArray[Any], name: str) -> NDArray[np.int8]:
    if values.dtype != np.int8:
        raise ConversionError(f"{name} is {values.dtype}; Core ML is lowered from the QDQ graph with int8 activations")
    return values


def _conv(lowering: Lowering, node: onnx.NodeProto) -> None:
    attributes = attributes_of(node)
    top, left, bottom, right = attributes.get("pads", [0, 0, 0, 0])
    lowering.variables[node.output[0]] = lowering.mb.conv(
        x=lowering.value(node.input[0]),
        **lowering.parameters(node),
        strides=attributes.get("strides", [1, 1]),
        pad_type="custom",
        pad=[top, bottom, left, right],
        dilations=attributes.get("dilations", [1, 1]),
        groups=attributes.get("group", 1),
        name=lowering.name(node),
    )


def _gemm(lowering: Lowering, node: onnx.NodeProto) -> None:
    attributes = attributes_of(node)
    if attributes.pop("transB", 0) != 1 or set(attributes.values()) - {1.0, 0}:
        raise ConversionError(f"node {node.name!r}: only Gemm with transB=1 and factors 1 is a linear layer in Core ML")
    lowering.variables[node.output[0]] = lowering.mb.linear(
        x=lowering.value(node.input[0]), **lowering.parameters(node), name=lowering.name(node)
    )


def _pad(lowering: Lowering, node: onnx.NodeProto) -> None:
    pads = lowering.constants[node.input[1]].reshape(2, -1).T.reshape(-1).astype(np.int32)
    real = lowering.mb.pad(
        x=_real(lowering, node.input[0]),
        pad=pads,
        mode="constant",
        constant_val=lowering.dtype(0),
        name=mil_name(node.output[0].removesuffix(".q")),
    )
    _moved(lowering, node, real)


def _concat(lowering: Lowering, node: onnx.NodeProto) -> None:
    real = lowering.mb.concat(
        values=[_real(lowering, source) for source in node.input],
        axis=attributes_of(node)["axis"],
        name=mil_name(node.output[0].removesuffix(".q")),
    )
    _moved(lowering, node, real)


def _real(lowering: Lowering, source: str) -> Var:
    """MIL pads and joins real numbers only, so integers are read, moved and written back with the same parameters."""
    if source not in lowering.quantization:
        return lowering.value(source)
    real = f"{source.removesuffix('.q')}.dq"
    lowering.integers[real] = source
    return lowering.value(real)


def _moved(lowering: Lowering, node: onnx.NodeProto, real: Var) -> None:
    quantization = lowering.quantization.get(node.input[0])
    if quantization:
        lowering.quantize(real, node.output[0], *quantization)
    else:
        lowering.variables[node.output[0]] = real


def _flatten(lowering: Lowering, node: onnx.NodeProto) -> None:
    source, output = node.input[0], node.output[0]
    value = lowering.value(source)
    if value.shape[2:] != (1, 1):
        raise ConversionError(f"node {node.name!r} flattens {value.shape}; Core ML lowering expects pooled 1 x 1 maps")
    lowering.variables[output] = lowering.mb.squeeze(x=value, axes=[2, 3], name=lowering.name(node))
    if source in lowering.quantization:
        lowering.quantization[output] = lowering.quantization[source]


def _global_average_pool(lowering: Lowering, node: onnx.NodeProto) -> None:
    lowering.variables[node.output[0]] = lowering.mb.reduce_mean(
        x=lowering.value(node.input[0]), axes=[2, 3], keep_dims=True, name=lowering.name(node)
    )


def _clip(lowering: Lowering, node: onnx.NodeProto) -> None:
    low, high = (float(lowering.constants[bound]) for bound in node.input[1:])
    source, name = lowering.value(node.input[0]), lowering.name(node)
    if (low, high) == (0.0, 6.0):
        lowering.variables[node.output[0]] = lowering.mb.relu6(x=source, name=name)
    else:
        lowering.variables[node.output[0]] = lowering.mb.clip(
            x=source, alpha=lowering.dtype(low), beta=lowering.dtype(high), name=name
        )


def _plain(operator: str) -> Operator:
    """An operator of one or two tensors and no attributes."""

    def lower_plain(lowering: Lowering, node: onnx.NodeProto) -> None:
        inputs = {key: lowering.value(name) for key, name in zip("xy", node.input, strict=False)}
        build = getattr(lowering.mb, operator)
        lowering.variables[node.output[0]] = build(**inputs, name=lowering.name(node))

    return lower_plain


type Operator = Callable[[Lowering, onnx.NodeProto], None]
OPERATORS: Mapping[str, Operator] = {
    "Add": _plain("add"),
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _conv,
    "DequantizeLinear": _dequantize,
    "Flatten": _flatten,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_average_pool,
    "Mul": _plain("mul"),
    "Pad": _pad,
    "QuantizeLinear": _quantize,
    "Relu": _plain("relu"),
    "Sigmoid": _plain("sigmoid"),
}
