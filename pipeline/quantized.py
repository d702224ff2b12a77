"""The quantization table and the graphs that carry it: decided from images, or taken from a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx

from rexnet_export.pipeline.checkpoint import LoadedCheckpoint
from rexnet_export.pipeline.checkpoint_metadata import QPARAMS_KEY
from rexnet_export.pipeline.data import batches, images_sha256
from rexnet_export.pipeline.errors import CheckpointError, ConversionError, first_line
from rexnet_export.pipeline.inputs import Images
from rexnet_export.pipeline.options import Options
from rexnet_export.pipeline.progress import Progress, counted
from rexnet_export.pipeline.records import ModelCard, StoredFile, stored_file
from rexnet_export.pipeline.release import QPARAMS_FILE
from rexnet_export.pipeline.report import CalibrationResult
from rexnet_export.quantization.edited import refitted
from rexnet_export.quantization.observe import observe
from rexnet_export.quantization.qdq import insert_qdq
from rexnet_export.quantization.scheme import decide, observed_tensors
from rexnet_export.quantization.table import Calibration, QuantTable, parse_table, save_table

CALIBRATION_BATCH = 8


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """The table and the QDQ graph as files, and where their ranges come from."""

    table: QuantTable
    table_file: StoredFile
    qdq: StoredFile
    calibration: CalibrationResult


def calibrate(
    folder: Path, card: ModelCard, images: Images, options: Options, float_onnx: StoredFile, progress: Progress
) -> Quantized:
    """Observe the images, decide, and write `qparams.json` and the QDQ graph."""
    model = onnx.load(float_onnx.path)
    with progress.stage("calibrating", len(images.indices), "images") as bar:
        pixels = counted(batches(images.source, card.preprocess, images.indices, CALIBRATION_BATCH), bar)
        statistics = observe(float_onnx.path, pixels, observed_tensors(model))
    calibration = Calibration(
        images_sha256=images_sha256(images.source, images.indices),
        images=len(images.indices),
        statistic=options.statistic,
        seed=options.seed,
    )
    return _written(folder, card, model, decide(model, statistics, calibration), images.source.name)


def take(folder: Path, card: ModelCard, table: QuantTable, source: str, float_onnx: StoredFile) -> Quantized:
    """Use a table, which a person may have edited, for the network it was made for; `source` says where it was."""
    model = onnx.load(float_onnx.path)
    return _written(folder, card, model, refitted(model, table), f"{source}, without calibrating")


def carried(checkpoint: LoadedCheckpoint) -> QuantTable | None:
    """The table that quantization-aware training left in a checkpoint."""
    text = checkpoint.metadata.get(QPARAMS_KEY)
    if text is None:
        return None
    try:
        return parse_table(text)
    except (ConversionError, ValueError, RecursionError, OverflowError) as error:
        raise CheckpointError(
            f"{checkpoint.file.path} holds a quantization table that cannot be read ({first_line(error)}); give "
            "--calibration-data to make another"
        ) from error


def _written(folder: Path, card: ModelCard, model: onnx.ModelProto, table: QuantTable, source: str) -> Quantized:
    save_table(table, folder / QPARAMS_FILE)
    path = folder / f"{card.name}-qdq.onnx"
    onnx.save(insert_qdq(model, table, "int8"), path)
    calibration = table.calibration
    return Quantized(
        table=table,
        table_file=stored_file(folder / QPARAMS_FILE),
        qdq=stored_file(path),
        calibration=CalibrationResult(
            source=source,
            images=calibration.images,
            images_sha256=calibration.images_sha256,
            statistic=calibration.statistic,
            seed=calibration.seed,
        ),
    )
