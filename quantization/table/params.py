"""Quantization parameters of one tensor and the arithmetic they stand for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

INT8_MIN, INT8_MAX = -128, 127
WEIGHT_MAX = 127
LEVELS = INT8_MAX - INT8_MIN
BIAS_MAX = 2**30  # half of int32: the other half is for the products summed onto it
SMALLEST_MULTIPLIER = 2.0**-24


@dataclass(frozen=True, kw_only=True)
class QuantParams:
    """real = (integer - zero_point) * scale; one pair for the tensor, or one per index along `axis`."""

    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int | None = None
    bits: int = 8

    def quantize(self, real: NDArray[np.floating]) -> NDArray[np.int64]:
        """Round half to even and saturate to the signed range of `bits`."""
        scale, zero_point = self._along_axis(real.ndim)
        low, high = -(2 ** (self.bits - 1)), 2 ** (self.bits - 1) - 1
        return np.clip(np.rint(real / scale) + zero_point, low, high).astype(np.int64)

    def second_nearest(self, real: NDArray[np.floating]) -> NDArray[np.int64]:
        """Symmetric integers on the other side of `real` than `quantize` rounds to, where the range has them."""
        scale, _ = self._along_axis(real.ndim)
        nearest = self.quantize(real)
        other = nearest + np.where(real / scale > nearest, 1, -1)
        return np.where(np.abs(other) <= 2 ** (self.bits - 1) - 1, other, nearest)

    def dequantize(self, integers: NDArray[np.integer]) -> NDArray[np.float64]:
        """The real numbers the integers stand for."""
        scale, zero_point = self._along_axis(integers.ndim)
        return (integers - zero_point) * scale

    def rounded(self, real: NDArray[np.float32]) -> NDArray[np.float32]:
        """`dequantize(quantize(real))` of a whole tensor's parameters, in float32 and fast."""
        scale, zero_point = np.float32(self.scale[0]), self.zero_point[0]
        steps = np.clip(np.rint(real / scale), np.float32(INT8_MIN - zero_point), np.float32(INT8_MAX - zero_point))
        found: NDArray[np.float32] = steps * scale
        return found

    @property
    def limits(self) -> tuple[float, float]:
        """What the lowest and the highest integer of a whole tensor's parameters stand for; exact in float32."""
        (scale,), (zero_point,) = self.scale, self.zero_point
        return (INT8_MIN - zero_point) * scale, (INT8_MAX - zero_point) * scale

    def _along_axis(self, rank: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        shape = [1] * rank
        if self.axis is not None:
            shape[self.axis] = len(self.scale)
        return np.reshape(np.asarray(self.scale, np.float64), shape), np.reshape(
            np.asarray(self.zero_point, np.int64), shape
        )


def half_precision_ceiling(scale: NDArray[np.float64]) -> NDArray[np.float64]:
    """The smallest float16 (subnormal ones included) not below each positive scale; infinite above 65504.

    Core ML computes in float16 and rounds scales to it. Scales that are float16 from the start are the same
    number in every artifact, and product and sum with int8 integers stay exact in float32.
    """
    with np.errstate(over="ignore"):
        half = scale.astype(np.float16)
        above = np.nextafter(half, np.float16(np.inf))
    return np.where(half.astype(np.float64) < scale, above, half).astype(np.float64)


def half_precision_floor(scale: NDArray[np.float64]) -> NDArray[np.float64]:
    """The largest float16 not above each scale of at least float16's smallest number."""
    half = scale.astype(np.float16)
    below = np.nextafter(half, np.float16(0))
    return np.where(half.astype(np.float64) > scale, below, half).astype(np.float64)


def from_range(low: float, high: float) -> QuantParams:
    """Asymmetric INT8 parameters for [low, high] widened to contain zero, which is represented exactly.

    The zero point is rounded, so an end of the range may saturate by up to half a step: no more than rounding errs.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    exact = (high - low) / LEVELS or 1.0
    scale = half_precision_ceiling(np.asarray(exact)).item()
    return QuantParams(scale=(scale,), zero_point=(round(INT8_MIN - low / scale),))


def up_to(high: float) -> QuantParams:
    """Parameters of an operator that clamps to [0, high]: 255 steps reach `high` and never pass it.

    A range that never passes the clamp makes the clamp itself redundant, and runtimes then remove it.
    """
    scale = half_precision_floor(np.asarray(high / LEVELS)).item()
    return QuantParams(scale=(scale,), zero_point=(INT8_MIN,))


def for_weights(
    weights: NDArray[np.floating], axis: int = 0, *, smallest: float | NDArray[np.float64] = 0.0
) -> QuantParams:
    """Symmetric INT8 parameters in [-127, 127] for each index along `axis`, scales no smaller than `smallest`."""
    others = tuple(i for i in range(weights.ndim) if i != axis)
    exact = np.maximum(np.abs(weights.astype(np.float64)).max(axis=others) / WEIGHT_MAX, smallest)
    scale = half_precision_ceiling(np.where(exact == 0.0, 1.0, exact))
    return QuantParams(scale=tuple(scale.tolist()), zero_point=(0,) * len(scale), axis=axis)


def smallest_weight_scale(bias: NDArray[np.floating], inputs: QuantParams, outputs: QuantParams) -> NDArray[np.float64]:
    """Per channel, the weight scale below which a convolution's integers no longer work.

    Weights near zero beside a plain bias (dead channels) would need a bias beyond int32, which saturates silently;
    and s_in * s_w / s_out under 2^-31 is zero in TFLite's fixed-point multiplier. At 2^-24 output steps for one
    accumulator step, what the limit costs is far below one output step.
    """
    by_bias = np.abs(bias.astype(np.float64)) / (inputs.scale[0] * BIAS_MAX)
    by_multiplier = outputs.scale[0] * SMALLEST_MULTIPLIER / inputs.scale[0]
    return np.maximum(by_bias, by_multiplier)


def for_bias(inputs: QuantParams, weights: QuantParams) -> QuantParams:
    """INT32 parameters of a bias: scale is input scale times weight scale (rounded to float32), zero point 0."""
    scale = np.float32(inputs.scale[0]) * np.asarray(weights.scale, np.float32)
    return QuantParams(scale=tuple(scale.tolist()), zero_point=(0,) * len(scale), axis=0, bits=32)
