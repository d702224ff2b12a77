"""A MIL program in the making: what has been translated from an ONNX graph so far, and how it is named.

MIL identifiers cannot hold dots, so `features.3.gate.q` is spelled `features__3__gate__q`; `onnx_name` reads that back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.quantization.table.params import for_weights
from rexnet_export.targets.coreml.compress import WeightForm, palettes
from rexnet_export.targets.coreml.package import type_name

if TYPE_CHECKING:
    from coremltools.converters.mil import Builder
    from coremltools.converters.mil.mil import Var

IMAGE, LOGITS, PROBABILITIES = "image", "logits", "probabilities"
INPUT = "input"
PIXEL_SCALE = 1 / 256  # a power of two: pixel * scale is exact even in float16
WHITE = 255


def mil_name(onnx_name: str) -> str:
    """A MIL identifier for an ONNX name, reversible by `onnx_name`."""
    name = onnx_name.replace(".", "__")
    if not name.isidentifier() or not name.isascii() or name.replace("__", ".") != onnx_name:
        raise ConversionError(f"{onnx_name!r} cannot be spelled as a MIL identifier; rename it in the ONNX graph")
    return name


def onnx_name(mil_name: str) -> str:
    """The ONNX name behind a MIL identifier made by `mil_name`."""
    return mil_name.replace("__", ".")


class Lowering:
    """What is translated so far, by ONNX tensor name: MIL variables, the scale and zero point of integer ones,
    the integers behind real ones (read only when something uses them), and constants."""

    def __init__(
        self, builder: type[Builder], graph: onnx.GraphProto, dtype: type[np.floating], weights: WeightForm
    ) -> None:
        self.mb = builder
        self.dtype = dtype
        self.weights = weights
        self.outputs = tuple(value.name for value in graph.output)
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        self.variables: dict[str, Var] = {}
        self.quantization: dict[str, tuple[NDArray[np.floating], NDArray[np.int8]]] = {}
        self.integers: dict[str, str] = {}

    def start(self, image: Var) -> None:
        """Append the constant channel (as a pad: it fixes no batch size) in the compute type."""
        half = self.dtype is np.float16
        image = self.mb.cast(x=image, dtype="fp16", name="image__half") if half else image
        pad = [0, 0, 0, 1, 0, 0, 0, 0]
        value = self.dtype(WHITE * PIXEL_SCALE)
        self.variables[INPUT] = self.mb.pad(x=image, pad=pad, mode="constant", constant_val=value, name=INPUT)

    def finish(self, *, classifies: bool) -> tuple[Var, ...]:
        """The outputs in float32, and behind them the softmax of the first where that has classes."""
        outputs = tuple(self._output(name) for name in self.outputs)
        if not classifies:
            return outputs
        return *outputs, self.mb.softmax(x=outputs[0], axis=-1, name=PROBABILITIES)

    def _output(self, tensor: str) -> Var:
        """A tensor as it leaves: float32, straight from its integers where it has some."""
        if tensor in self.integers:
            return self._dequantized(tensor, mil_name(tensor), np.float32)
        value = self.value(tensor)
        return value if type_name(value) == "fp32" else self.mb.cast(x=value, dtype="fp32", name=mil_name(tensor))

    def name(self, node: onnx.NodeProto) -> str:
        """The MIL name of a node's output; outputs in float16 leave the plain name to their float32 copy."""
        output = node.output[0]
        return mil_name(f"{output}.half" if output in self.outputs and self.dtype is np.float16 else output)

    def constant(self, tensor: str) -> Var:
        """A parameter in the compute type, under its own name; a value beyond the type's range is an error."""
        name, values = tensor.removesuffix(".dq"), self.constants[tensor]
        with np.errstate(over="ignore"):
            result: NDArray[np.floating] = values.astype(self.dtype)
        if not np.isfinite(result).all():
            raise ConversionError(f"{name} holds {np.abs(values).max():g}, beyond {np.dtype(self.dtype)}; use --fp32")
        return self.mb.const(val=result, name=mil_name(name))

    def value(self, tensor: str) -> Var:
        """The variable of a tensor; one that is stored as integers is dequantized on first use."""
        if tensor not in self.variables:
            name = f"{tensor}.dq" if tensor in self.outputs else tensor
            self.variables[tensor] = self._dequantized(tensor, mil_name(name), self.dtype)
        return self.variables[tensor]

    def _dequantized(self, tensor: str, name: str, dtype: type[np.floating]) -> Var:
        integers = self.integers[tensor]
        scale, zero_point = self.quantization[integers]
        return self.mb.dequantize(
            input=self.variables[integers], scale=scale.astype(dtype), zero_point=zero_point, name=name
        )

    def quantize(self, real: Var, tensor: str, scale: NDArray[np.floating], zero_point: NDArray[np.int8]) -> None:
        """Store int8 `tensor`."""
        self.quantization[tensor] = scale, zero_point
        self.variables[tensor] = self.mb.quantize(
            input=real, scale=scale, zero_point=zero_point, output_dtype="int8", name=mil_name(tensor)
        )

    def parameters(self, node: onnx.NodeProto) -> dict[str, Any]:
        """Weight (in integers where the graph has them, else as asked for) and bias of a Conv or Gemm."""
        _, weight, bias = node.input
        stored = self.variables.get(weight)
        return {"weight": self._weight(weight) if stored is None else stored, "bias": self.constant(bias)}

    def _weight(self, tensor: str) -> Var:
        """A real weight under its own name, compressed in the form asked for."""
        if self.weights == "integers":
            return self._integers(tensor)
        compressed = palettes(self.constants[tensor]) if self.weights == "palettes" else None
        if compressed is None:
            return self.constant(tensor)
        from coremltools.converters.mil.mil import types  # noqa: PLC0415

        numbers, others = compressed.numbers, [1] * (compressed.indices.ndim - 1)
        looked_up = self.mb.constexpr_lut_to_dense(
            indices=compressed.indices.astype(types.nptype_from_builtin(types.uint4)),
            lut=numbers.reshape(len(numbers), *others, numbers.shape[1], 1),
            name=mil_name(f"{tensor}.palette"),
        )
        return self.mb.constexpr_blockwise_shift_scale(
            data=looked_up, scale=compressed.scales.reshape(-1, *others), name=mil_name(tensor)
        )

    def _integers(self, tensor: str) -> Var:
        values = self.constants[tensor]
        params = for_weights(values)
        return self.mb.constexpr_affine_dequantize(
            quantized_data=params.quantize(values).astype(np.int8),
            scale=np.array(params.scale, self.dtype),
            zero_point=np.array(params.zero_point, np.int8),
            axis=0,
            name=mil_name(tensor),
        )

    def stored_scale(self, tensor: str) -> NDArray[np.floating]:
        """Scales in the compute type, which must hold them exactly: every format stores the same numbers."""
        scales = self.constants[tensor]
        stored: NDArray[np.floating] = scales.astype(self.dtype)
        if not np.array_equal(stored, scales):
            raise ConversionError(f"{tensor} is no {np.dtype(self.dtype)} number, so Core ML would store another")
        return stored
