"""What a saved ML program really holds: its quantization parameters, its arithmetic, its interface."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rexnet_export.pipeline.artifact.structure import Structure, islands
from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.records import RGB, Coverage, ModelCard, NotMeasured, stored_file
from rexnet_export.quantization.table.params import QuantParams
from rexnet_export.targets.coreml.builder import IMAGE, INPUT, LOGITS, mil_name, onnx_name
from rexnet_export.targets.coreml.package import SPECIFICATIONS, WEIGHTS, Package, expanded, is_stored, type_name

if TYPE_CHECKING:
    from coremltools.converters.mil.mil import Operation, Var

LABEL = "classLabel"
_CLAMPS = ("clip", "relu", "relu6")
_PRODUCTS = ("conv", "linear")
_APPENDED = ("_palettized_pcs", "_quantized", "_palettized", "_sparsified")
# How our own files compress weights, by precision; small ones and those left in float stay as they are.
_OURS = {
    "int8": "constexpr_affine_dequantize",
    "w8": "constexpr_affine_dequantize",
    "w4": "constexpr_blockwise_shift_scale",
}
_NO_ARITHMETIC = ("cast", "dequantize", "quantize")


def stored_qparams(package: Package) -> dict[str, QuantParams]:
    """Scales and zero points by ONNX tensor name, from every operation that stores some."""
    found: dict[str, QuantParams] = {}
    for name, params in _stored(package):
        if found.setdefault(name, params) != params:
            raise ConversionError(f"{package.path}: {name} is written with other parameters than it is read with")
    return found


def _stored(package: Package) -> Iterator[tuple[str, QuantParams]]:
    for op in package.operations:
        if op.op_type == "quantize":
            yield onnx_name(op.outputs[0].name).removesuffix(".q"), _params(op)
        elif op.op_type == "dequantize":
            yield onnx_name(op.input.name).removesuffix(".q"), _params(op)
        elif op.op_type == "constexpr_affine_dequantize":
            yield _parameter(op.outputs[0]), _params(op)


def _params(op: Operation) -> QuantParams:
    scale = np.atleast_1d(op.scale.val).astype(np.float64)
    stored = 0 if op.zero_point is None else op.zero_point.val  # MIL's default
    zero_point = np.broadcast_to(np.asarray(stored, np.int64), scale.shape)
    axis = None if op.inputs.get("axis") is None else int(op.axis.val)
    return QuantParams(scale=tuple(scale.tolist()), zero_point=tuple(zero_point.tolist()), axis=axis)


def weights_of(package: Package) -> dict[str, Var]:
    """What convolutions and linear layers multiply with, by ONNX tensor name."""
    products = (op for op in package.operations if op.op_type in _PRODUCTS)
    return {_parameter(op.weight): op.weight for op in products}


def _parameter(var: Var) -> str:
    """The ONNX name of a weight or bias; coremltools appends to it what it did."""
    name = onnx_name(var.name)
    for ending in _APPENDED:
        name = name.removesuffix(ending)
    return name


def compressed_since(package: Package) -> dict[str, str]:
    """Weights that are compressed otherwise than our files of the package's precision do it, by name: their form."""
    ours = {"const", _OURS.get(package.metadata.get("precision", ""), "const")}
    return {name: _form(var.op) for name, var in weights_of(package).items() if var.op and var.op.op_type not in ours}


def _form(op: Operation) -> str:
    match op.op_type:
        case "constexpr_affine_dequantize":
            return "8-bit integers"
        case "constexpr_blockwise_shift_scale" if op.data.op is not None and op.data.op.op_type != "const":
            return _form(op.data.op)
        case "constexpr_blockwise_shift_scale":
            return f"{type_name(op.data)} integers in blocks"
        case "constexpr_lut_to_dense":
            return f"palettes of {op.lut.shape[-2] if len(op.lut.shape) > 1 else op.lut.shape[0]} numbers"
        case "constexpr_sparse_to_dense":
            return "sparse numbers"
    return str(op.op_type)


def stored_parameters(package: Package) -> dict[str, NDArray[np.generic]]:
    """Weights (integers where they are quantized) and biases (real numbers, always) by ONNX tensor name."""
    found: dict[str, NDArray[np.generic]] = {}
    for op in package.operations:
        if op.op_type in _PRODUCTS:
            for var in (op.inputs[key] for key in ("weight", "bias") if op.inputs.get(key) is not None):
                if var.op is None or not is_stored(var.op):
                    raise ConversionError(
                        f"{package.path}: {onnx_name(var.name)} is computed, not stored; export again"
                    )
                found[_parameter(var)] = _stored_values(var)
    return found


def _stored_values(var: Var) -> NDArray[np.generic]:
    """Real numbers or integers as they lie in the file; of a palette the real numbers that it stands for."""
    match var.op.op_type:
        case "const":
            return np.asarray(var.val)
        case "constexpr_affine_dequantize":
            return np.asarray(var.op.quantized_data.val)
    return expanded(var)


def count_arithmetic(package: Package) -> Coverage:
    """Multiply-accumulates of one image, and the operations between input and outputs that yield a real number."""
    int8_macs = total_macs = 0
    float_ops, float_layers = [], []
    for op in _between_input_and_outputs(package):
        integer = _is_integer(op)
        if not integer:
            float_ops.append(f"{onnx_name(op.outputs[0].name)} ({op.op_type})")
        if op.op_type in _PRODUCTS:
            macs = prod(op.outputs[0].shape) * prod(op.weight.shape[1:])
            total_macs += macs
            int8_macs += macs if integer else 0
            float_layers += [] if integer else [onnx_name(op.weight.name)]
    return Coverage(
        int8_macs=int8_macs, total_macs=total_macs, float_ops=tuple(float_ops), float_layers=tuple(float_layers)
    )


def structure(package: Package) -> Structure:
    """Weights, operations and what is left in float, counted from the saved program."""
    left = [op for op in _between_input_and_outputs(package) if not _is_integer(op)]
    return Structure(
        tensor_bytes=stored_file(package.path / "Data" / WEIGHTS).bytes,
        operators=dict(Counter(op.op_type for op in package.operations if op.op_type != "const")),
        float_islands=islands(([var.name for var in _reals(op)], [var.name for var in op.outputs]) for op in left),
        qdq_pairs=NotMeasured(reason="an ML program says INT8 by such pairs; Core ML fuses them on the device"),
        arena_bytes=NotMeasured(reason="Core ML plans its memory on the device"),
    )


def _between_input_and_outputs(package: Package) -> list[Operation]:
    operations = package.operations
    names = [op.outputs[0].name for op in operations]
    try:
        last = max(map(names.index, real_outputs(package)))
        between = operations[names.index(INPUT) + 1 : last + 1]
    except ValueError as error:
        raise ConversionError(f"{package.path} has no {INPUT!r} or not its outputs; export it again") from error
    return [op for op in between if op.op_type not in _NO_ARITHMETIC and not is_stored(op)]


def _is_integer(op: Operation) -> bool:
    """Whether integers go in and come out, the way Core ML fuses: dequantize - op - (clamp) - quantize."""
    output = op.outputs[0]
    if type_name(output) == "int8":
        return True
    return _is_quantized(output) and all(_comes_from_integers(op, var) for var in _reals(op))


def _is_quantized(var: Var) -> bool:
    return bool(var.child_ops) and all(
        user.op_type == "quantize" or (user.op_type in _CLAMPS and _is_quantized(user.outputs[0]))
        for user in var.child_ops
    )


def _comes_from_integers(op: Operation, var: Var) -> bool:
    producer = var.op
    if producer is None:
        return False
    if var is op.inputs.get("weight"):
        return producer.op_type == "constexpr_affine_dequantize" and type_name(producer.quantized_data) == "int8"
    # A clamp also stands behind the operation it is fused into, which answers for its own inputs.
    return producer.op_type == "dequantize" or op.op_type in _CLAMPS


def _reals(op: Operation) -> list[Var]:
    """The real inputs that are no attributes: data, and the weight; biases are real by Core ML's convention."""
    reals = [op.inputs[key] for key in ("x", "y", "weight") if op.inputs.get(key) is not None]
    return [*reals, *op.inputs.get("values", ())]


def real_outputs(package: Package) -> tuple[str, ...]:
    """The MIL names of what the program is run for: all outputs but the classifier's own, the logits first."""
    description = package.spec.description
    own = {description.predictedFeatureName, description.predictedProbabilitiesName}
    declared = [output.name for output in description.output if output.name not in own]
    return tuple(sorted(declared, key=lambda name: name != LOGITS)) or (LOGITS,)


def check_interface(package: Package, card: ModelCard, specification: int) -> None:
    """The promises an application relies on: the system's version, an image in, all outputs out; of classes, label and
    probabilities too."""
    spec, (height, width) = package.spec, card.preprocess.shape
    outputs = {output.name: output.type for output in spec.description.output}
    classes = [LABEL, f"{LABEL}_probs"] if card.labels else []
    shapes = {mil_name(f.name): [1, f.channels, -(-height // f.stride), -(-width // f.stride)] for f in card.features}
    if not card.features:
        shapes = {LOGITS: [1, card.answers], **{mil_name(head.name): [1, head.numbers] for head in card.heads}}
    found = {
        "specification version": spec.specificationVersion,
        "opset": spec.mlProgram.functions["main"].opset,
        "input": image_shape(package),
        "outputs": sorted(outputs),
        "labels": len(class_labels(package)) if classes else 0,
        "predicted feature": spec.description.predictedFeatureName,
        **{name: list(kind.multiArrayType.shape) for name, kind in outputs.items() if name not in classes},
    }
    wanted = {
        "specification version": specification,
        "opset": SPECIFICATIONS[specification],
        "input": (height, width, card.preprocess.channels),
        "outputs": sorted([*shapes, *classes]),
        "labels": len(card.labels),
        "predicted feature": LABEL if classes else "",
        **shapes,
    }
    _same(package, found, wanted)


def image_shape(package: Package) -> tuple[int, int, int]:
    """Height, width and channels of what the program takes: a colour image, or an array [1, C, H, W] of others."""
    inputs = {feature.name: feature.type for feature in package.spec.description.input}
    if set(inputs) == {IMAGE}:
        kind = inputs[IMAGE]
        if kind.HasField("imageType"):
            return kind.imageType.height, kind.imageType.width, RGB
        shape = tuple(kind.multiArrayType.shape)
        if len(shape) == 4 and shape[0] == 1 and shape[1] != RGB:
            return shape[2], shape[3], shape[1]
    raise ConversionError(f"{package.path} takes {sorted(inputs)}, not one image named {IMAGE!r}; export it again")


def class_labels(package: Package) -> tuple[str, ...]:
    """The labels of the classifier, by class index; none where there is none."""
    for op in package.operations:
        if op.op_type == "classify":
            return tuple(op.classes.val)
    return ()


def check_operations(package: Package, products: dict[str, int]) -> None:
    """As many convolutions and linear layers as the graph it was lowered from."""
    counts = Counter(op.op_type for op in package.operations)
    _same(package, {kind: counts[kind] for kind in products}, products)


def _same(package: Package, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    for key, value in wanted.items():
        if found[key] != value:
            raise ConversionError(f"{package.path}: {key} is {found[key]!r}, expected {value!r}")
