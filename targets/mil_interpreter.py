"""Executes a saved ML program where Core ML does not exist: the operations of our packages, in torch on the CPU.

It runs the file on disk, stored integers and scales included, batch by batch. It follows the program's own types:
a float16 result is rounded to float16 (sums inside an operation are float32). It stands for what the file says, not
for Apple's kernels, which may fuse integers or add up in another order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from rexnet_export.pipeline.errors import ConversionError, DataError
from rexnet_export.targets.coreml_mil import IMAGE, LOGITS
from rexnet_export.targets.coreml_package import Package, type_name

if TYPE_CHECKING:
    from coremltools.converters.mil.mil import Operation, Var

BATCH = 32
CONSTANTS = ("const", "constexpr_affine_dequantize")


@dataclass(frozen=True, kw_only=True)
class _Step:
    """One operation: where its result goes, and the results nobody reads after it."""

    operation: Operation
    output: str
    half: bool
    unused: tuple[str, ...]


class MilSession:
    """A package ready to run; `half=False` skips every rounding to float16."""

    executed_by = "MIL reference interpreter"
    timed = False

    def __init__(self, package: Package, *, half: bool = True) -> None:
        self._image = package.program.functions["main"].inputs[IMAGE]
        self._steps = _plan(package, half=half)
        self._constants: dict[str, Tensor] = {}
        for step in self._steps:
            for var in data_inputs(step.operation).values():
                if (value := constant(var, half=half)) is not None:
                    self._constants[var.name] = value

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 [N, S, S, 3] RGB -> float32 logits [N, classes]."""
        _, _, *size = self._image.shape
        if images.shape[1:] != (*size, 3) or images.dtype != np.uint8:
            raise DataError(
                f"images are {images.dtype} {images.shape}; the package takes uint8 [N, {size[0]}, {size[1]}, 3]"
            )
        batches = [self._run(images[start : start + BATCH]) for start in range(0, len(images), BATCH)]
        return np.concatenate(batches)

    @torch.inference_mode()
    def _run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        # Core ML hands an image to the program as float32 [1, 3, S, S] in 0..255.
        values = {**self._constants, IMAGE: torch.tensor(images).permute(0, 3, 1, 2).float()}
        for step in self._steps:
            inputs = {key: values[var.name] for key, var in data_inputs(step.operation).items()}
            result = OPERATIONS[step.operation.op_type](step.operation, inputs)
            values[step.output] = result.half().float() if step.half else result
            for name in step.unused:
                del values[name]
        logits: NDArray[np.float32] = values[LOGITS].numpy()
        return logits


def _plan(package: Package, *, half: bool) -> tuple[_Step, ...]:
    """The operations `logits` needs, in program order."""
    needed, operations = {LOGITS}, []
    for op in reversed(package.operations):
        output = op.outputs[0].name
        if output not in needed or op.op_type in CONSTANTS:
            continue
        if op.op_type not in OPERATIONS:
            raise ConversionError(f"{package.path}: the interpreter has no {op.op_type} ({output})")
        inputs = {var.name for var in data_inputs(op).values() if var.op is None or var.op.op_type not in CONSTANTS}
        unused = tuple(sorted(inputs - needed))
        needed |= inputs
        rounds = half and type_name(op.outputs[0]) == "fp16"
        operations.append(_Step(operation=op, output=output, half=rounds, unused=unused))
    return tuple(reversed(operations))


def data_inputs(op: Operation) -> dict[str, Var]:
    """The inputs that are data; the rest are attributes."""
    data = {key: op.inputs[key] for key in ("x", "y", "input", "weight", "bias") if op.inputs.get(key) is not None}
    return data | {str(position): var for position, var in enumerate(op.inputs.get("values", ()))}


def constant(var: Var, *, half: bool) -> Tensor | None:
    """The value of a constant, stored integers as the weights they stand for; None for anything computed."""
    if var.op is None or var.op.op_type not in CONSTANTS:
        return None
    if var.op.op_type == "const":
        return torch.from_numpy(np.asarray(var.val, np.float32))
    stored = var.op
    shape = [1] * stored.quantized_data.rank
    shape[int(stored.axis.val)] = -1
    scale, zero_point = (np.float32(value.val).reshape(shape) for value in (stored.scale, stored.zero_point))
    weights = torch.from_numpy((np.float32(stored.quantized_data.val) - zero_point) * scale)
    return weights.half().float() if half and type_name(var) == "fp16" else weights


type Inputs = Mapping[str, Tensor]


def _quantize(op: Operation, inputs: Inputs) -> Tensor:
    """Round half to even and saturate; the integers stay in float32, which holds them exactly."""
    zero_point = float(op.zero_point.val)
    steps = torch.div(inputs["input"], float(op.scale.val)).round_()
    return steps.add_(zero_point).clamp_(-128, 127)


def _dequantize(op: Operation, inputs: Inputs) -> Tensor:
    return torch.sub(inputs["input"], float(op.zero_point.val)).mul_(float(op.scale.val))


def _conv(op: Operation, inputs: Inputs) -> Tensor:
    top, bottom, left, right = op.pad.val.tolist()
    x = inputs["x"]
    padding = (top, left)
    if (top, left) != (bottom, right):
        x, padding = functional.pad(x, (left, right, top, bottom)), (0, 0)
    return functional.conv2d(
        x,
        inputs["weight"],
        inputs.get("bias"),
        tuple(op.strides.val.tolist()),
        padding,
        tuple(op.dilations.val.tolist()),
        int(op.groups.val),
    )


def _pad(op: Operation, inputs: Inputs) -> Tensor:
    before_and_after = op.pad.val.reshape(-1, 2)[::-1].reshape(-1).tolist()
    return functional.pad(inputs["x"], before_and_after, value=float(op.constant_val.val))


def _concat(op: Operation, inputs: Inputs) -> Tensor:
    return torch.cat([inputs[str(position)] for position in range(len(op.inputs["values"]))], int(op.axis.val))


def _squeeze(op: Operation, inputs: Inputs) -> Tensor:
    return inputs["x"].squeeze(tuple(op.axes.val.tolist()))


def _reduce_mean(op: Operation, inputs: Inputs) -> Tensor:
    return inputs["x"].mean(tuple(op.axes.val.tolist()), keepdim=bool(op.keep_dims.val))


def _clip(op: Operation, inputs: Inputs) -> Tensor:
    return inputs["x"].clamp(float(op.alpha.val), float(op.beta.val))


def _unary(function: Callable[[Tensor], Tensor]) -> Callable[[Operation, Inputs], Tensor]:
    return lambda _, inputs: function(inputs["x"])


OPERATIONS: Mapping[str, Callable[[Operation, Inputs], Tensor]] = {
    "add": lambda _, inputs: inputs["x"] + inputs["y"],
    "cast": _unary(lambda x: x),
    "clip": _clip,
    "concat": _concat,
    "conv": _conv,
    "dequantize": _dequantize,
    "linear": lambda _, inputs: functional.linear(inputs["x"], inputs["weight"], inputs.get("bias")),
    "mul": lambda _, inputs: inputs["x"] * inputs["y"],
    "pad": _pad,
    "quantize": _quantize,
    "reduce_mean": _reduce_mean,
    "relu": _unary(functional.relu),
    "relu6": _unary(functional.relu6),
    "sigmoid": _unary(torch.sigmoid),
    "silu": _unary(functional.silu),
    "squeeze": _squeeze,
}
