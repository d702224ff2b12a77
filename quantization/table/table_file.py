"""`qparams.json` (`table.schema.json`): the same table is the same bytes, and whatever is read is checked whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.json_record import JsonRecord, Sha256
from rexnet_export.pipeline.core.records import AtLeastOne, Count, Positive, Text, write_whole
from rexnet_export.pipeline.core.untrusted import read_untrusted
from rexnet_export.quantization.table.params import INT8_MAX, INT8_MIN, QuantParams
from rexnet_export.quantization.table.rewrites import Rewrite
from rexnet_export.quantization.table.rounding_mask import check_mask
from rexnet_export.quantization.table.table import Calibration, QuantTable, TensorEntry

SCHEMA_VERSION = 2
MOST_BYTES = 256 * 2**20


def _ordered(ends: tuple[float, float]) -> tuple[float, float]:
    if ends[0] > ends[1]:
        raise ValueError(f"{list(ends)} is not [low, high]")
    return ends


def _mask(text: str) -> str:
    try:
        check_mask(text, "the mask")
    except ConversionError as error:
        raise ValueError(str(error)) from error
    return text


class _WholeTensor(JsonRecord):
    """INT8 parameters of an activation: one scale and one zero point."""

    scale: tuple[Positive]
    zero_point: tuple[Annotated[int, Field(ge=INT8_MIN, le=INT8_MAX)]]
    axis: None
    bits: Literal[8]


class _Channels(JsonRecord):
    """Symmetric parameters of a weight or a bias: one scale for each channel."""

    scale: Annotated[tuple[Positive, ...], Field(min_length=1)]
    zero_point: Annotated[tuple[Literal[0], ...], Field(min_length=1)]
    axis: Count

    @model_validator(mode="after")
    def _as_many(self) -> Self:
        if len(self.scale) != len(self.zero_point):
            raise ValueError(f"has {len(self.scale)} scales and {len(self.zero_point)} zero points")
        return self


class _Channels8(_Channels):
    """INT8 parameters of weights."""

    bits: Literal[8]


class _Channels32(_Channels):
    """INT32 parameters of a bias."""

    bits: Literal[32]


class _Observed(JsonRecord):
    """An activation whose range comes from calibration."""

    decision: Literal["observed"]
    params: _WholeTensor
    observed: Annotated[tuple[float, float], AfterValidator(_ordered)]
    statistic: Text


class _Fixed(JsonRecord):
    """An activation whose range its operator fixes: sigmoid, a clamp, the image."""

    decision: Literal["fixed"]
    params: _WholeTensor


class _Shared(JsonRecord):
    """A moved copy of source, with source's parameters."""

    decision: Literal["shared"]
    params: _WholeTensor
    source: Text


class _Weights(JsonRecord):
    """Weights: symmetric, one scale per output channel."""

    decision: Literal["weights"]
    params: _Channels8
    rounding: Annotated[Text, AfterValidator(_mask)] | None = None
    """Base64 of zlib of one bit a weight in ONNX layout, the first in the highest bit of the first byte: 1 where the
    weight becomes the second nearest integer."""


class _Derived(JsonRecord):
    """A bias: its scales are those of source (the input) times those of the weights."""

    decision: Literal["derived"]
    params: _Channels32
    source: Text
    correction: tuple[float, ...] | None = None
    """Added to each channel before it is rounded."""

    @model_validator(mode="after")
    def _every_channel(self) -> Self:
        if self.correction is not None and len(self.correction) != len(self.params.scale):
            raise ValueError(f"has {len(self.params.scale)} scales but corrects {len(self.correction)} channels")
        return self


class _Fused(JsonRecord):
    """Computed inside source, the clamp that follows; it exists in no artifact."""

    decision: Literal["fused"]
    source: Text


class _Float(JsonRecord):
    """Stays in floating point."""

    decision: Literal["float"]
    reason: Text


type _Entry = _Observed | _Fixed | _Shared | _Weights | _Derived | _Fused | _Float


class _Calibration(JsonRecord):
    """Which images the ranges come from."""

    images_sha256: Sha256
    """Over the pixels of all images in order."""
    images: AtLeastOne
    statistic: Text
    seed: Count


class TableJson(JsonRecord):
    """real = (integer - zero_point) * scale for every tensor of a float ONNX model, by tensor name.

    Integers are signed; unsigned 8-bit activations are the same numbers 128 higher.
    """

    model_config = ConfigDict(title="Quantization table (qparams.json)")

    schema_version: Literal[2]
    model_sha256: Sha256
    """The float ONNX graph the table belongs to: after the rewrites, without the metadata beside it."""
    calibration: _Calibration
    rewrites: tuple[Annotated[Rewrite, Field(discriminator="rule")], ...]
    """Exact rewrites, in order, that made the float ONNX file from the checkpoint's."""
    tensors: dict[str, Annotated[_Entry, Field(discriminator="decision")]]

    @model_validator(mode="after")
    def _sources(self) -> Self:
        for name, entry in self.tensors.items():
            if isinstance(entry, _Shared | _Derived | _Fused) and entry.source not in self.tensors:
                raise ValueError(f"{name} refers to {entry.source!r}, which the table does not have")
        return self


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
        "calibration": asdict(table.calibration),
    }
    tensors = {name: _entry_fields(entry) for name, entry in sorted(table.tensors.items())}
    rewrites = ",\n".join(_dumped(asdict(rewrite)) for rewrite in table.rewrites)
    lists = f'"rewrites": [\n{rewrites}\n],\n"tensors": {{\n{_lines(tensors)}\n}}'
    return f"{{\n{_lines(head)},\n{lists}\n}}\n"


def load_table(path: Path) -> QuantTable:
    """Read a table written by `save_table`; anything unexpected is a `ConversionError` naming where it is."""
    try:
        return parse_table(read_untrusted(path, MOST_BYTES).decode())
    except OSError as error:
        raise ConversionError(f"cannot read the quantization table {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # JSON and UTF-8 errors are ValueErrors
        raise ConversionError(f"{path} is not a quantization table: {error}; export again to get one") from error
    except ConversionError as error:
        raise ConversionError(f"{path}: {error}") from error


def parse_table(text: str) -> QuantTable:
    """Parse and check the JSON text of a table."""
    table = TableJson.parse(text)
    return QuantTable(
        model_sha256=table.model_sha256,
        calibration=Calibration(**vars(table.calibration)),
        tensors={name: _entry(vars(entry)) for name, entry in table.tensors.items()},
        rewrites=table.rewrites,
    )


def _entry(fields: Mapping[str, Any]) -> TensorEntry:
    params = fields.get("params")
    return TensorEntry(**{**fields, "params": None if params is None else QuantParams(**vars(params))})


def _entry_fields(entry: TensorEntry) -> dict[str, object]:
    return {key: value for key, value in asdict(entry).items() if value is not None}


def _lines(members: Mapping[str, object]) -> str:
    return ",\n".join(f"{json.dumps(key)}: {_dumped(value)}" for key, value in members.items())


def _dumped(value: object) -> str:
    return json.dumps(value, allow_nan=False)
