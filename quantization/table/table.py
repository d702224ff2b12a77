"""The quantization table: the one file that decides what every artifact's INT8 means."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.quantization.table.params import QuantParams
from rexnet_export.quantization.table.rewrites import Rewrite
from rexnet_export.quantization.table.rounding_mask import parse_mask

type Decision = Literal["observed", "fixed", "shared", "derived", "weights", "fused", "float"]


@dataclass(frozen=True, kw_only=True)
class TensorEntry:
    """How one ONNX tensor is represented, and why.

    `observed` from calibration, `fixed` by the operator (sigmoid, ReLU6, the image), `shared` with `source`,
    `derived` from the scales of `source` (biases), `weights` from the values themselves; `fused` into `source`,
    the activation that follows and clamps it, so the tensor exists in no artifact; `float` for `reason`.
    `correction` is added to a bias, channel by channel in real numbers, before it is rounded to integers.
    `rounding` is a `bitmask` over weights in ONNX layout: those that become the second nearest integer.
    """

    decision: Decision
    params: QuantParams | None = None
    source: str | None = None
    observed: tuple[float, float] | None = None
    statistic: str | None = None
    reason: str | None = None
    correction: tuple[float, ...] | None = None
    rounding: str | None = None


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Which images the ranges come from: a digest over their pixels in order, how many, and the statistic."""

    images_sha256: str
    images: int
    statistic: str
    seed: int


@dataclass(frozen=True, kw_only=True)
class QuantTable:
    """Entries by ONNX tensor name, the digest of the float ONNX graph they belong to, and the calibration.

    `rewrites` made that graph, in order, from the checkpoint's: nothing else of the equalization is needed.
    """

    model_sha256: str
    calibration: Calibration
    tensors: Mapping[str, TensorEntry]
    rewrites: tuple[Rewrite, ...] = ()

    @property
    def float_tensors(self) -> tuple[str, ...]:
        """The activations, weights and biases that stay in float, in name order."""
        return tuple(sorted(name for name, entry in self.tensors.items() if entry.decision == "float"))

    def require_stored(self, found: Mapping[str, QuantParams], inside: Collection[str] = ()) -> None:
        """Refuse what was read back from a file just written, unless it is this table's parameters, all and no more.

        `inside`: the tensors that the file's format has no parameters for (see `Inspection.inside`).
        """
        wanted = {
            name: entry.params
            for name, entry in self.tensors.items()
            if entry.params is not None and name not in inside
        }
        for name in wanted.keys() | found.keys():
            if wanted.get(name) != found.get(name):
                raise ConversionError(
                    f"{name}: the table says {wanted.get(name)}, the file {found.get(name)}; report this model"
                )

    def integers(self, name: str, real: NDArray[np.floating]) -> NDArray[np.int64]:
        """What the parameter `name`, in the float model `real` (ONNX layout), is stored as in every artifact."""
        entry = self.tensors.get(name)
        if entry is None or entry.params is None:
            raise ConversionError(f"{name} has no integers in the table; make the table again")
        scales, axis = len(entry.params.scale), entry.params.axis
        if axis is None or axis >= real.ndim or real.shape[axis] != scales:
            raise ConversionError(f"{name} {real.shape} has {scales} scales along axis {axis}; make the table again")
        if entry.correction is not None:
            real = real.astype(np.float64) + np.asarray(entry.correction)
        if entry.rounding is None:
            return entry.params.quantize(real)
        otherwise = parse_mask(entry.rounding, real.size, f"{name}.rounding").reshape(real.shape)
        return np.where(otherwise, entry.params.second_nearest(real), entry.params.quantize(real))
