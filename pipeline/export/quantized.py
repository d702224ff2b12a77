"""The quantization table and the graphs that carry it, as files in a folder; nothing here needs torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx

from rexnet_export.pipeline.artifact.metadata import describe
from rexnet_export.pipeline.core.files import QPARAMS_FILE
from rexnet_export.pipeline.core.records import ModelCard, StoredFile, stored_file
from rexnet_export.pipeline.report.report import Quality
from rexnet_export.pipeline.report.report_json import CalibrationResult
from rexnet_export.quantization.onnx.view import view
from rexnet_export.quantization.rewrites.rewrite import apply
from rexnet_export.quantization.scheme.insert_qdq import insert_qdq
from rexnet_export.quantization.scheme.refit import refitted
from rexnet_export.quantization.search.float_islands import check_islands
from rexnet_export.quantization.search.mixed_precision import Mixed
from rexnet_export.quantization.table.table import QuantTable
from rexnet_export.quantization.table.table_file import save_table


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """The float graph that is quantized, its table and its QDQ graph as files, and where the ranges come from."""

    table: QuantTable
    table_file: StoredFile
    float_onnx: StoredFile
    qdq: StoredFile
    calibration: CalibrationResult
    quality: Quality | None = None
    mixed: Mixed | None = None


def take(folder: Path, card: ModelCard, table: QuantTable, source: str, float_onnx: StoredFile) -> Quantized:
    """Use a table, which a person may have edited, for the network it was made for; `source` says where it was."""
    model = onnx.load(float_onnx.path)
    if table.rewrites:
        model = apply(model, table.rewrites)
        float_onnx = equalized(folder, card, model)
    return written(folder, card, model, float_onnx, refitted(model, table), f"{source}, without calibrating", ())


def equalized(folder: Path, card: ModelCard, model: onnx.ModelProto) -> StoredFile:
    """Write a float graph that the table's rewrites changed."""
    path = folder / f"{card.name}-equalized.onnx"
    path.write_bytes(model.SerializeToString(deterministic=True))
    return stored_file(path)


def written(
    folder: Path,
    card: ModelCard,
    model: onnx.ModelProto,
    float_onnx: StoredFile,
    table: QuantTable,
    source: str,
    warnings: tuple[str, ...],
) -> Quantized:
    """Write the table and the QDQ graph of the float graph it belongs to; `source` says where its ranges are from."""
    check_islands(view(model), table)
    save_table(table, folder / QPARAMS_FILE)
    path = folder / f"{card.name}-qdq.onnx"
    table_file, graph = stored_file(folder / QPARAMS_FILE), insert_qdq(model, table, "int8")
    digests = {"float_onnx_sha256": float_onnx.sha256, "table_sha256": table_file.sha256}
    stated = describe(card, precision="int8", float_tensors=table.float_tensors, **digests)
    onnx.helper.set_model_props(graph, stated)  # it has the float graph's until then
    onnx.save(graph, path)
    calibration = table.calibration
    return Quantized(
        table=table,
        table_file=table_file,
        float_onnx=float_onnx,
        qdq=stored_file(path),
        calibration=CalibrationResult(
            source=source,
            images=calibration.images,
            images_sha256=calibration.images_sha256,
            statistic=calibration.statistic,
            seed=calibration.seed,
            warnings=warnings,
        ),
    )
