"""A package just written, compared with the graph and the table it came from."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from rexnet_export.pipeline.artifact.target import Source
from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.quantization.table.params import QuantParams, for_weights
from rexnet_export.quantization.table.table import QuantTable
from rexnet_export.targets.coreml.compress import FEW, FORMS, channel_scales, nearest, scaled
from rexnet_export.targets.coreml.inspect import (
    check_interface,
    check_operations,
    stored_parameters,
    stored_qparams,
    weights_of,
)
from rexnet_export.targets.coreml.package import Package, expanded


def check(package: Package, model: onnx.ModelProto, source: Source, specification: int) -> None:
    """Refuse a package that is not the graph it came from, or does not store the table or the weights."""
    operators = Counter(node.op_type for node in model.graph.node)
    check_interface(package, source.card, specification)
    check_operations(package, {"conv": operators["Conv"], "linear": operators["Gemm"]})
    if source.precision == "int8" and source.table is not None:
        _check_table(stored_qparams(package), source.table)
    form = FORMS.get(source.precision, "real")
    real = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    if form == "integers":
        _check_integers(package, real)
    elif form == "palettes":
        _check_palettes(package, real)


def _check_table(stored: dict[str, QuantParams], table: QuantTable) -> None:
    for name, entry in table.tensors.items():
        if entry.params is None or entry.params.bits != 8 or entry.decision == "fused":
            continue
        if stored.get(name) != entry.params:
            raise ConversionError(f"Core ML stores other parameters for {name} than the table; report this as a bug")


def _check_integers(package: Package, real: dict[str, NDArray[np.floating]]) -> None:
    """Each weight in the integers that its own range gives, one scale for an output channel."""
    params, stored = stored_qparams(package), stored_parameters(package)
    for name in weights_of(package):
        wanted = for_weights(real[name])
        if params.get(name) != wanted or not np.array_equal(stored[name], wanted.quantize(real[name])):
            raise ConversionError(f"Core ML stores other integers for {name} than its weights; report this as a bug")


def _check_palettes(package: Package, real: dict[str, NDArray[np.floating]]) -> None:
    """Each value of a weight stands for the number of its group's palette that is nearest to it, times its channel's
    scale."""
    for name, var in weights_of(package).items():
        if var.op.op_type == "const" and real[name].size <= FEW:
            continue
        if var.op.op_type != "constexpr_blockwise_shift_scale" or var.op.data.op.op_type != "constexpr_lut_to_dense":
            raise ConversionError(f"Core ML stores no palettes for {name}; report this as a bug")
        scales, palettes = var.op.scale.val, var.op.data.op.lut.val
        groups = [np.split(each, len(palettes)) for each in (scaled(real[name], scales.ravel()), expanded(var.op.data))]
        same = np.array_equal(scales.ravel(), channel_scales(real[name])) and all(
            np.array_equal(numbers.ravel()[nearest(values.ravel(), numbers.ravel())], found.ravel())
            for values, found, numbers in zip(*groups, palettes, strict=True)
        )
        if not same:
            raise ConversionError(
                f"Core ML stores other weights for {name} than its palettes' nearest; report this as a bug"
            )
