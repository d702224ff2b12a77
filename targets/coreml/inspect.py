"""What a saved ML program really holds: its quantization parameters, its arithmetic, its interface."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rexnet_export.pipeline.artifact.structure import Structure, islands
from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.records import Coverage, Feature, NotMeasured, stored_file
from rexnet_export.quantization.table.params import QuantParams
from rexnet_export.targets.coreml.builder import IMAGE, INPUT, LOGITS, mil_name, onnx_name
from rexnet_export.targets.coreml.package import WEIGHTS, Package, type_name

if TYPE_CHECKING:
    from coremltools.converters.mil.mil import Operation, Var

OPSET = "CoreML7"  # iOS 17
LABEL = "classLabel"
_CLAMPS = ("clip", "relu", "relu6")
_PRODUCTS = ("conv", "linear")
_NO_ARITHMETIC = ("cast", "const", "constexpr_affine_dequantize", "dequantize", "quantize")


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
            yield onnx_name(op.outputs[0].name), _params(op)


def _params(op: Operation) -> QuantParams:
    scale = np.atleast_1d(op.scale.val).astype(np.float64)
    stored = 0 if op.zero_point is None else op.zero_point.val  # MIL's default
    zero_point = np.broadcast_to(np.asarray(stored, np.int64), scale.shape)
    axis = None if op.inputs.get("axis") is None else int(op.axis.val)
    return QuantParams(scale=tuple(scale.tolist()), zero_point=tuple(zero_point.tolist()), axis=axis)


def stored_parameters(package: Package) -> dict[str, NDArray[np.generic]]:
    """Weights (integers where they are quantized) and biases (real numbers, always) by ONNX tensor name."""
    found: dict[str, NDArray[np.generic]] = {}
    for op in package.operations:
        if op.op_type in _PRODUCTS:
            for var in (op.inputs[key] for key in ("weight", "bias") if op.inputs.get(key) is not None):
                integers = var.op is not None and var.op.op_type == "constexpr_affine_dequantize"
                values = var.op.quantized_data.val if integers else var.val
                if values is None:
                    raise ConversionError(
                        f"{package.path}: {onnx_name(var.name)} is computed, not stored; export again"
                    )
                found[onnx_name(var.name)] = np.asarray(values)
    return found


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
    return [op for op in between if op.op_type not in _NO_ARITHMETIC]


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
    """The MIL names of what the program is run for: the logits, or all outputs of a backbone."""
    declared = tuple(output.name for output in package.spec.description.output)
    return (LOGITS,) if LOGITS in declared or not declared else declared


def check_backbone(package: Package, shape: tuple[int, int], features: Sequence[Feature]) -> None:
    """The promises of a backbone: iOS 17, an RGB image in, every feature map out, and no classifier."""
    spec = package.spec
    image = spec.description.input[0]
    found = {
        "opset": spec.mlProgram.functions["main"].opset,
        "input": (image.name, image.type.imageType.width, image.type.imageType.height),
        **{output.name: list(output.type.multiArrayType.shape) for output in spec.description.output},
    }
    wanted = {
        "opset": OPSET,
        "input": (IMAGE, shape[1], shape[0]),
        **{mil_name(f.name): [1, f.channels, *(-(-side // f.stride) for side in shape)] for f in features},
    }
    if set(found) != set(wanted):
        raise ConversionError(f"{package.path} gives {sorted(found)}, expected {sorted(wanted)}")
    _same(package, found, wanted)


def check_interface(package: Package, shape: tuple[int, int], labels: int) -> None:
    """The promises an application relies on: iOS 17, an RGB image in, label, probabilities and logits out."""
    spec = package.spec
    image, outputs = spec.description.input[0], {output.name: output.type for output in spec.description.output}
    logits = outputs[LOGITS].multiArrayType if LOGITS in outputs else None
    found = {
        "opset": spec.mlProgram.functions["main"].opset,
        "input": (image.name, image.type.imageType.width, image.type.imageType.height),
        "outputs": sorted(outputs),
        "logits": list(logits.shape) if logits else None,
        "predicted feature": spec.description.predictedFeatureName,
        "labels": len(class_labels(package)),
    }
    wanted = {
        "opset": OPSET,
        "input": (IMAGE, shape[1], shape[0]),
        "outputs": [LABEL, f"{LABEL}_probs", LOGITS],
        "logits": [1, labels],
        "predicted feature": LABEL,
        "labels": labels,
    }
    _same(package, found, wanted)


def class_labels(package: Package) -> tuple[str, ...]:
    """The labels of the classifier, by class index."""
    for op in package.operations:
        if op.op_type == "classify":
            return tuple(op.classes.val)
    raise ConversionError(f"{package.path} has no classifier; export it again")


def check_operations(package: Package, products: dict[str, int]) -> None:
    """As many convolutions and linear layers as the graph it was lowered from."""
    counts = Counter(op.op_type for op in package.operations)
    _same(package, {kind: counts[kind] for kind in products}, products)


def _same(package: Package, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    for key, value in wanted.items():
        if found[key] != value:
            raise ConversionError(f"{package.path}: {key} is {found[key]!r}, expected {value!r}")
