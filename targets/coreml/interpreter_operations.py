"""The operations of our ML programs in torch: one small function for each, called when a program is opened.

It reads the operation's attributes and returns what computes the result from the data inputs. Tensors are float32
throughout; integers stay in float32 too, which holds them exactly. Sums inside an operation are float32; what a result
is rounded to is `mil_program`'s business. An attribute's value that is not computed here is refused, never ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.targets.coreml.package import expanded, is_stored, type_name

if TYPE_CHECKING:
    from coremltools.converters.mil.mil import Operation, Var

RANGES: Mapping[str, tuple[int, int]] = {"int8": (-128, 127), "uint8": (0, 255)}
_DATA = ("x", "y", "input", "weight", "bias", "values")
_FLOATS = ("fp16", "fp32")
_POINTWISE = frozenset({"add", "cast", "clip", "dequantize", "mul", "quantize", "relu", "relu6", "sigmoid", "silu"})

type Kernel = Callable[..., Tensor]


def arguments(op: Operation) -> tuple[Var, ...]:
    """The inputs that are data, in the order a kernel takes them; the rest are attributes."""
    given = (op.inputs[key] for key in _DATA if op.inputs.get(key) is not None)
    return tuple(var for value in given for var in (value if isinstance(value, list | tuple) else (value,)))


def is_constant(var: Var) -> bool:
    """Whether a variable is stored in the file, not computed."""
    return var.op is not None and is_stored(var.op)


def is_pointwise(op: Operation) -> bool:
    """Whether each number of the result follows from those in its place alone, wherever that is."""
    attributes = [op.inputs[key].val for key in ("scale", "zero_point") if op.inputs.get(key) is not None]
    return op.op_type in _POINTWISE and not any(np.ndim(value) for value in attributes)


def constant(var: Var) -> Tensor:
    """The value of a constant in float32, stored integers as the weights they stand for.

    Palettes and what else compresses weights are expanded by coremltools, which only looks numbers up there.
    """
    if var.op.op_type == "const":
        return torch.from_numpy(np.asarray(var.val, np.float32))
    if var.op.op_type != "constexpr_affine_dequantize":
        return torch.from_numpy(np.asarray(expanded(var), np.float32))
    stored = var.op.quantized_data
    return reals_of(var.op, stored.rank)(torch.from_numpy(np.asarray(stored.val, np.float32)))


def reals_of(op: Operation, rank: int) -> Kernel:
    """From the integers that `op` stores or reads, of `rank`, to real numbers: (integer - zero_point) * scale."""
    scale, zero_point = _along_axis(op, "scale", rank), _along_axis(op, "zero_point", rank)
    return lambda integers: torch.sub(integers, zero_point).mul_(scale)


def _quantize(op: Operation) -> Kernel:
    """clip(round(input / scale) + zero_point): the quotient is float32, halves go to the even integer.

    That is what coremltools computes for a constant input (`optimize/_utils.py`, `quantize_by_scale_and_zp`:
    `np.around`, then the zero point, then `np.clip`), save that there a quotient of float16 numbers is a float16.
    """
    scale, zero_point = (_along_axis(op, key, op.input.rank) for key in ("scale", "zero_point"))
    low, high = RANGES[type_name(op.outputs[0])]
    return lambda real: torch.div(real, scale).round_().add_(zero_point).clamp_(low, high)


def _dequantize(op: Operation) -> Kernel:
    return reals_of(op, op.input.rank)


def _along_axis(op: Operation, key: str, rank: int) -> Tensor:
    """A scale or zero point (0 where there is none), shaped to meet a tensor of `rank` along the operation's axis."""
    values: NDArray[np.float32] = np.asarray(0 if op.inputs.get(key) is None else op.inputs[key].val, np.float32)
    if values.ndim:
        shape = [1] * rank
        shape[int(op.axis.val)] = -1
        values = values.reshape(shape)
    return torch.from_numpy(values)


def _conv(op: Operation) -> Kernel:
    if op.pad_type.val not in {"custom", "valid"}:
        raise _unknown(op, f"pad_type {op.pad_type.val!r}")
    top, bottom, left, right = op.pad.val.tolist() if op.pad_type.val == "custom" else (0, 0, 0, 0)
    strides, dilations, groups = tuple(op.strides.val.tolist()), tuple(op.dilations.val.tolist()), int(op.groups.val)
    symmetric = (top, left) == (bottom, right)
    padding = (top, left) if symmetric else (0, 0)

    def conv(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        x = x if symmetric else functional.pad(x, (left, right, top, bottom))
        return functional.conv2d(x, weight, bias, strides, padding, dilations, groups)

    return conv


def _pad(op: Operation) -> Kernel:
    if op.mode.val != "constant":
        raise _unknown(op, f"mode {op.mode.val!r}")
    last_axis_first = op.pad.val.reshape(-1, 2)[::-1].reshape(-1).tolist()
    value = float(op.constant_val.val)
    return lambda x: functional.pad(x, last_axis_first, value=value)


def _concat(op: Operation) -> Kernel:
    if op.inputs.get("interleave") is not None and bool(op.interleave.val):
        raise _unknown(op, "interleave")
    (axis,) = _inside_the_image(op, op.axis.val)
    return lambda *values: torch.cat(values, axis)


def _squeeze(op: Operation) -> Kernel:
    axes = _inside_the_image(op, None if op.axes is None else op.axes.val)
    return lambda x: x.squeeze(axes)


def _reduce_mean(op: Operation) -> Kernel:
    axes = _inside_the_image(op, None if op.axes is None else op.axes.val)
    keep = bool(op.keep_dims.val)
    return lambda x: x.mean(axes, keepdim=keep)


def _softmax(op: Operation) -> Kernel:
    (axis,) = _inside_the_image(op, op.axis.val)
    return lambda x: torch.softmax(x, axis)


def _inside_the_image(op: Operation, axes: NDArray[np.int32] | np.int32 | None) -> tuple[int, ...]:
    """The axes of an operation. A saved program takes one image; batches are run in its place, so axis 0 is taboo."""
    rank = op.outputs[0].rank if op.op_type == "concat" else op.x.rank
    named = range(rank) if axes is None else np.atleast_1d(axes).tolist()
    found = tuple(int(axis) % rank for axis in named)
    if 0 in found:
        raise _unknown(op, "the batch axis")
    return found


def _clip(op: Operation) -> Kernel:
    low, high = float(op.alpha.val), float(op.beta.val)
    return lambda x: x.clamp(low, high)


def _cast(op: Operation) -> Kernel:
    if op.dtype.val not in _FLOATS or type_name(op.x) not in _FLOATS:
        raise _unknown(op, f"{type_name(op.x)} to {op.dtype.val}")
    return lambda x: x


def _plain(kernel: Kernel) -> Callable[[Operation], Kernel]:
    """An operation without attributes."""
    return lambda _: kernel


def _unknown(op: Operation, what: str) -> ConversionError:
    return ConversionError(f"the interpreter has no {op.op_type} with {what} ({op.outputs[0].name}); export it again")


OPERATIONS: Mapping[str, Callable[[Operation], Kernel]] = {
    "add": _plain(torch.add),
    "cast": _cast,
    "clip": _clip,
    "concat": _concat,
    "conv": _conv,
    "dequantize": _dequantize,
    "linear": _plain(functional.linear),
    "mul": _plain(torch.mul),
    "pad": _pad,
    "quantize": _quantize,
    "reduce_mean": _reduce_mean,
    "relu": _plain(functional.relu),
    "relu6": _plain(functional.relu6),
    "sigmoid": _plain(torch.sigmoid),
    "silu": _plain(functional.silu),
    "softmax": _softmax,
    "squeeze": _squeeze,
}
