"""Writes the published JSON Schemas, each beside the record that it describes: `python tests/support/write_schemas.py`.

A test holds the files to what this makes, so a changed record is a changed schema in the same commit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, override

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode
from pydantic_core import CoreSchema

from rexnet_export.apps.bench.browser.upload import Upload
from rexnet_export.apps.bench.gpu.gpu_json import GpuJson
from rexnet_export.apps.bench.result.record import DeviceResult
from rexnet_export.apps.export.doctor.doctor_json import DoctorJson
from rexnet_export.apps.export.info.info_json import InfoJson
from rexnet_export.apps.export.npu.npu_json import NpuJson
from rexnet_export.apps.export.sweep.sweep_json import SweepJson, TimingsJson
from rexnet_export.apps.export.verify.rebuild_json import RebuiltJson
from rexnet_export.apps.export.verify.verify_json import VerificationJson
from rexnet_export.apps.gate.accuracy.result import GateJson
from rexnet_export.apps.gate.baseline.record import BaselineJson
from rexnet_export.apps.gate.latency.latency_json import LatencyJson
from rexnet_export.pipeline.artifact.manifest import ManifestJson
from rexnet_export.pipeline.core.json_record import JsonRecord
from rexnet_export.pipeline.report.report_json import ReportJson
from rexnet_export.quantization.table.table_file import TableJson

ROOT = Path(__file__).parents[2]
# What leaves out a null says so by a default in the mode of reading; what only writes, writes everything.
SCHEMAS: dict[str, tuple[type[JsonRecord], JsonSchemaMode]] = {
    "apps/bench/browser/upload.schema.json": (Upload, "validation"),
    "apps/bench/gpu/gpu.schema.json": (GpuJson, "serialization"),
    "apps/bench/result/device_result.schema.json": (DeviceResult, "validation"),
    "apps/export/doctor/doctor.schema.json": (DoctorJson, "serialization"),
    "apps/export/info/info.schema.json": (InfoJson, "serialization"),
    "apps/export/npu/npu.schema.json": (NpuJson, "serialization"),
    "apps/export/sweep/sweep.schema.json": (SweepJson, "serialization"),
    "apps/export/sweep/timings.schema.json": (TimingsJson, "serialization"),
    "apps/export/verify/rebuild.schema.json": (RebuiltJson, "serialization"),
    "apps/export/verify/verify.schema.json": (VerificationJson, "serialization"),
    "apps/gate/baseline/baseline.schema.json": (BaselineJson, "validation"),
    "apps/gate/accuracy/gate.schema.json": (GateJson, "serialization"),
    "apps/gate/latency/latency_gate.schema.json": (LatencyJson, "serialization"),
    "pipeline/artifact/manifest.schema.json": (ManifestJson, "validation"),
    "pipeline/report/report.schema.json": (ReportJson, "serialization"),
    "quantization/table/table.schema.json": (TableJson, "validation"),
}


class _Published(GenerateJsonSchema):
    """Properties have no titles, names no underscores, and a value with a default other than null is always there."""

    @override
    def generate(self, schema: CoreSchema, mode: JsonSchemaMode = "validation") -> dict[str, Any]:
        content = super().generate(schema, mode)
        definitions = content.pop("$defs", {})
        for definition in definitions.values():
            definition.pop("title", None)
        return {"$schema": self.schema_dialect, "title": content.pop("title"), **content, "$defs": definitions}

    @override
    def normalize_name(self, name: str) -> str:
        return super().normalize_name(name).lstrip("_")

    @override
    def field_title_should_be_set(self, schema: object) -> bool:
        return False

    @override
    def field_is_required(self, field: Mapping[str, Any], total: bool) -> bool:
        if "serialization_exclude_if" in field:
            return False
        schema = field["schema"]
        return schema["type"] != "default" or schema.get("default") is not None or self.mode == "serialization"


def schema_text(record: type[JsonRecord], mode: JsonSchemaMode) -> str:
    """The JSON Schema of a record."""
    return json.dumps(record.model_json_schema(schema_generator=_Published, mode=mode), indent=2) + "\n"


if __name__ == "__main__":
    for path, (record, mode) in SCHEMAS.items():
        (ROOT / path).write_text(schema_text(record, mode), encoding="utf-8")
