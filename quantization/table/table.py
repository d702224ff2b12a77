"""The quantization table: the one file that decides what every artifact's INT8 means.

On disk it is `qparams.json` (schema in `table.schema.json`), written so that the same table is the same bytes and
read strictly.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.records import write_whole
from rexnet_export.pipeline.core.strict_json import (
    a_list,
    a_sha256,
    a_text,
    an_array,
    an_integer,
    an_object,
    numbers,
    strict_loads,
)
from rexnet_export.quantization.table.params import INT8_MAX, INT8_MIN, QuantParams
from rexnet_export.quantization.table.rewrites import Rewrite, parse_rewrite, rewrite_fields
from rexnet_export.quantization.table.rounding_mask import check_mask, parse_mask

type Decision = Literal["observed", "fixed", "shared", "derived", "weights", "fused", "float"]


SCHEMA_VERSION = 2
_NEEDS: Mapping[str, frozenset[str]] = {
    "observed": frozenset({"params", "observed", "statistic"}),
    "fixed": frozenset({"params"}),
    "shared": frozenset({"params", "source"}),
    "derived": frozenset({"params", "source"}),
    "weights": frozenset({"params"}),
    "fused": frozenset({"source"}),
    "float": frozenset({"reason"}),
}
_MAY_HAVE: Mapping[str, frozenset[str]] = {
    "derived": frozenset({"correction"}),
    "weights": frozenset({"rounding"}),
}


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


def save_table(table: QuantTable, path: Path) -> None:
    """Write the table; the same table gives the same bytes, and `path` appears complete or not at all."""
    try:
        write_whole(path, table_text(table).encode())
    except OSError as error:
        raise ConversionError(f"cannot write {path}: {error.strerror}; choose another --output") from error


def table_text(table: QuantTable) -> str:
    """JSON, a rewrite a line in order, a tensor a line in name order; numbers read back exactly."""
    head = {
        "schema_version": SCHEMA_VERSION,
        "model_sha256": table.model_sha256,
        "calibration": {field.name: getattr(table.calibration, field.name) for field in fields(Calibration)},
    }
    tensors = {name: _entry_fields(entry) for name, entry in sorted(table.tensors.items())}
    rewrites = ",\n".join(_dumped(rewrite_fields(rewrite)) for rewrite in table.rewrites)
    lists = f'"rewrites": [\n{rewrites}\n],\n"tensors": {{\n{_lines(tensors)}\n}}'
    return f"{{\n{_lines(head)},\n{lists}\n}}\n"


def _lines(members: Mapping[str, object]) -> str:
    return ",\n".join(f"{json.dumps(key)}: {_dumped(value)}" for key, value in members.items())


def _dumped(value: object) -> str:
    return json.dumps(value, allow_nan=False)


def _entry_fields(entry: TensorEntry) -> dict[str, object]:
    return {key: value for key, value in asdict(entry).items() if value is not None}


def load_table(path: Path) -> QuantTable:
    """Read a table written by `save_table`; anything unexpected is a `ConversionError` naming where it is."""
    try:
        return parse_table(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConversionError(f"cannot read the quantization table {path}: {error.strerror}") from error
    except (
        ValueError,
        RecursionError,
        OverflowError,
    ) as error:  # JSON and UTF-8 errors are ValueErrors, too large an integer overflows
        raise ConversionError(f"{path} is not a quantization table: {error}; export again to get one") from error
    except ConversionError as error:
        raise ConversionError(f"{path}: {error}") from error


def parse_table(text: str) -> QuantTable:
    """Parse and check the JSON text of a table."""
    root = an_object(
        strict_loads(text),
        "the table",
        {"schema_version", "model_sha256", "calibration", "rewrites", "tensors"},
    )
    if type(root["schema_version"]) is not int or root["schema_version"] != SCHEMA_VERSION:
        raise ConversionError(f"schema_version is {root['schema_version']!r}, this program reads {SCHEMA_VERSION}")
    calibration = an_object(root["calibration"], "calibration", {"images_sha256", "images", "statistic", "seed"})
    tensors = {name: _entry(value, name) for name, value in an_object(root["tensors"], "tensors").items()}
    for name, entry in tensors.items():
        _check_entry(name, entry, tensors)
    rewrites = a_list(root["rewrites"], "rewrites")
    return QuantTable(
        model_sha256=a_sha256(root["model_sha256"], "model_sha256"),
        calibration=Calibration(
            images_sha256=a_sha256(calibration["images_sha256"], "calibration.images_sha256"),
            images=an_integer(calibration["images"], "calibration.images", 1),
            statistic=a_text(calibration["statistic"], "calibration.statistic"),
            seed=an_integer(calibration["seed"], "calibration.seed", 0),
        ),
        tensors=tensors,
        rewrites=tuple(parse_rewrite(value, f"rewrites[{index}]") for index, value in enumerate(rewrites)),
    )


def _entry(value: object, name: str) -> TensorEntry:
    decision = value.get("decision") if isinstance(value, dict) else None
    for known in get_args(Decision.__value__):
        if decision == known:
            found = an_object(value, name, {"decision", *_NEEDS[known]}, _MAY_HAVE.get(known, frozenset()))
            return TensorEntry(
                decision=known,
                params=_params(found["params"], name, known) if "params" in found else None,
                source=a_text(found["source"], f"{name}.source") if "source" in found else None,
                observed=_range(found["observed"], f"{name}.observed") if "observed" in found else None,
                statistic=a_text(found["statistic"], f"{name}.statistic") if "statistic" in found else None,
                reason=a_text(found["reason"], f"{name}.reason") if "reason" in found else None,
                correction=numbers(found["correction"], f"{name}.correction") if "correction" in found else None,
                rounding=_mask(found["rounding"], f"{name}.rounding") if "rounding" in found else None,
            )
    raise ConversionError(f"{name} has decision {decision!r}; known are {', '.join(_NEEDS)}")


def _params(value: object, name: str, decision: Decision) -> QuantParams:
    where = f"{name}.params"
    found = an_object(value, where, {"scale", "zero_point", "axis", "bits"})
    by_channel = decision in {"weights", "derived"}
    bits, low, high = 32 if decision == "derived" else 8, *((0, 0) if by_channel else (INT8_MIN, INT8_MAX))
    scale = numbers(found["scale"], f"{where}.scale")
    points = an_array(found["zero_point"], f"{where}.zero_point")
    zero_point = tuple(an_integer(item, f"{where}.zero_point", low, high) for item in points)
    axis = an_integer(found["axis"], f"{where}.axis", 0) if by_channel else found["axis"]
    if min(scale) <= 0.0:
        raise ConversionError(f"{where}.scale holds {min(scale)}; scales are above zero")
    if len(scale) != len(zero_point) or (not by_channel and (axis is not None or len(scale) > 1)):
        raise ConversionError(f"{where} has {len(scale)} scales, {len(zero_point)} zero points and axis {axis!r}")
    return QuantParams(
        scale=scale,
        zero_point=zero_point,
        axis=axis if isinstance(axis, int) else None,
        bits=an_integer(found["bits"], f"{where}.bits", bits, bits),
    )


def _check_entry(name: str, entry: TensorEntry, tensors: Mapping[str, TensorEntry]) -> None:
    if entry.correction is not None and entry.params and len(entry.correction) != len(entry.params.scale):
        raise ConversionError(
            f"{name} has {len(entry.params.scale)} scales but corrects {len(entry.correction)} channels"
        )
    if entry.source is None:
        return
    if entry.source not in tensors:
        raise ConversionError(f"{name} refers to {entry.source!r}, which the table does not have")


def _range(value: object, where: str) -> tuple[float, float]:
    ends = numbers(value, where)
    if len(ends) != 2 or ends[0] > ends[1]:
        raise ConversionError(f"{where} holds {list(ends)}, not [low, high]")
    return ends[0], ends[1]


def _mask(value: object, where: str) -> str:
    text = a_text(value, where)
    check_mask(text, where)
    return text
