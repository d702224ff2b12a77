"""What a file stores beside what it should: the card, and the quantization table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from rexnet_export.pipeline.artifact.inspection import Inspection
from rexnet_export.pipeline.artifact.metadata import card_from
from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.records import Artifact, Measurement, ModelCard, NotMeasured
from rexnet_export.pipeline.proof.results import ReadBack
from rexnet_export.quantization.table.params import QuantParams
from rexnet_export.quantization.table.table import QuantTable

BIAS_BITS = 32


def read_back(
    artifact: Artifact, inspection: Inspection, card: ModelCard, table: QuantTable | None
) -> Measurement[ReadBack]:
    """Compare what the file stores with the card and the table; the error names the first tensors that differ."""
    path = artifact.file.path
    if card_from(inspection.metadata) != card:
        raise ConversionError(f"{path.name} does not say the labels and preprocessing it was given; report this")
    if table is None or artifact.precision != "int8":
        return NotMeasured(reason="only INT8 artifacts hold the quantization table")
    stored = inspection.qparams
    differing = differences(table, stored, inspection.inside)
    if differing:
        raise ConversionError(
            f"{path.name} does not hold the quantization table: {len(differing)} tensors differ, first "
            f"{', '.join(differing[:3])}; report this with the checkpoint"
        )
    return ReadBack(
        tensors=sum(entry.params is not None and name in stored for name, entry in table.tensors.items()),
        rounded_to_float16=len(rounded_to_float16(table, stored)),
    )


def differences(
    table: QuantTable, stored: Mapping[str, QuantParams], inside: Mapping[str, str] = MappingProxyType({})
) -> list[str]:
    """Tensors whose stored parameters are missing or not the table's, compared as float32, or that it leaves in float.

    A scale rounded to float16 is the table's (see `rounded_to_float16`). Biases count where the format stores them as
    integers; Core ML takes the float values those stand for. What is `inside` an operator has no parameters in the file
    (see `Inspection.inside`).
    """
    integer_biases = any(params.bits == BIAS_BITS for params in stored.values())
    unwanted = [name for name in table.float_tensors if name in stored]
    return unwanted + [
        name
        for name, entry in table.tensors.items()
        if entry.params is not None
        and name not in inside.keys() - stored.keys()
        and (entry.params.bits != BIAS_BITS or integer_biases)
        and (name not in stored or not (_equal(entry.params, stored[name]) or _rounded(entry.params, stored[name])))
    ]


def rounded_to_float16(table: QuantTable, stored: Mapping[str, QuantParams]) -> list[str]:
    """Tensors whose scale the file holds as the nearest float16, as Core ML's compute type asks for: none where the
    table's scales are float16 numbers, as ours are."""
    return [
        name
        for name, entry in table.tensors.items()
        if entry.params is not None and name in stored and _rounded(entry.params, stored[name])
    ]


def _rounded(wanted: QuantParams, stored: QuantParams) -> bool:
    if wanted.bits != 8 or _equal(wanted, stored):
        return False
    with np.errstate(over="ignore"):
        half = np.array(wanted.scale).astype(np.float16)
    return _equal(replace(wanted, scale=tuple(half.astype(np.float64).tolist())), stored)


def _equal(one: QuantParams, other: QuantParams) -> bool:
    return (
        one.zero_point == other.zero_point
        and one.bits == other.bits
        and np.array_equal(np.array(one.scale, np.float32), np.array(other.scale, np.float32))
    )
