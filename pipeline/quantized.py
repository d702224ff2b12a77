"""The quantization table and the graphs that carry it: decided from images, or taken from a file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from rexnet_export.pipeline.checkpoint import LoadedCheckpoint
from rexnet_export.pipeline.checkpoint_metadata import QPARAMS_KEY
from rexnet_export.pipeline.data import batches, images_sha256
from rexnet_export.pipeline.errors import CheckpointError, ConversionError, DataError, first_line
from rexnet_export.pipeline.inputs import Images
from rexnet_export.pipeline.options import Options
from rexnet_export.pipeline.progress import Progress, counted
from rexnet_export.pipeline.records import ModelCard, StoredFile, stored_file
from rexnet_export.pipeline.release import QPARAMS_FILE
from rexnet_export.pipeline.report import CalibrationResult
from rexnet_export.quantization.calibration_check import check_images, check_statistics
from rexnet_export.quantization.choose import choose_ranges
from rexnet_export.quantization.correct import choose_correction
from rexnet_export.quantization.edited import refitted
from rexnet_export.quantization.equalize import equalize
from rexnet_export.quantization.observe import TensorStatistics, observe
from rexnet_export.quantization.qdq import insert_qdq
from rexnet_export.quantization.ranges import AUTO
from rexnet_export.quantization.rewrites import apply
from rexnet_export.quantization.scheme import decide, observed_tensors
from rexnet_export.quantization.simulate import simulator
from rexnet_export.quantization.table import Calibration, QuantTable, parse_table, save_table

CALIBRATION_BATCH = 8
SAMPLE = 256  # images that are looked at, judged by, or corrected on; held in memory
FEWEST_JUDGES = 8


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """The float graph that is quantized, its table and its QDQ graph as files, and where the ranges come from."""

    table: QuantTable
    table_file: StoredFile
    float_onnx: StoredFile
    qdq: StoredFile
    calibration: CalibrationResult


def calibrate(
    folder: Path, card: ModelCard, images: Images, options: Options, float_onnx: StoredFile, progress: Progress
) -> Quantized:
    """Observe the images, even out channels where that pays, decide, and write table and graphs into `folder`.

    With the statistic `auto` some images set no range: they judge which ranges, and whether corrected biases, to take.
    """
    model = onnx.load(float_onnx.path)
    calibration = Calibration(
        images_sha256=images_sha256(images.source, images.indices),
        images=len(images.indices),
        statistic=options.statistic,
        seed=options.seed,
    )
    held_back = _held_back(images, options.statistic)
    seen = replace(images, indices=images.indices[: len(images.indices) - len(held_back.indices)])
    sample = _pixels(seen, card)
    warnings = check_images(sample, [seen.source.ids[index] for index in seen.indices[:SAMPLE]], card.preprocess)
    statistics = _observed(model, float_onnx, seen, card, progress)
    scalings = equalize(model, statistics)
    if scalings:
        model = apply(model, scalings)
        float_onnx = _equalized(folder, card, model)
        statistics = _observed(model, float_onnx, seen, card, progress)
    if options.statistic == AUTO:
        judge = simulator(model, _pixels(held_back, card))
        ranges = choose_ranges(model, statistics, judge, calibration).ranges
        table = choose_correction(model, decide(model, statistics, calibration, ranges), sample, judge).table
    else:
        warnings += check_statistics(statistics, dict.fromkeys(statistics, options.statistic))
        table = decide(model, statistics, calibration)
    for warning in warnings:
        progress.note(f"calibration: {warning}")
    table = replace(table, rewrites=scalings)
    return _written(folder, card, model, float_onnx, table, images.source.name, tuple(warnings))


def take(folder: Path, card: ModelCard, table: QuantTable, source: str, float_onnx: StoredFile) -> Quantized:
    """Use a table, which a person may have edited, for the network it was made for; `source` says where it was."""
    model = onnx.load(float_onnx.path)
    if table.rewrites:
        model = apply(model, table.rewrites)
        float_onnx = _equalized(folder, card, model)
    return _written(folder, card, model, float_onnx, refitted(model, table), f"{source}, without calibrating", ())


def _held_back(images: Images, statistic: str) -> Images:
    """The last images, for a statistic that needs a judge."""
    if statistic != AUTO:
        return replace(images, indices=())
    count = min(SAMPLE, len(images.indices) // 3)
    if count < FEWEST_JUDGES:
        raise DataError(
            f"--statistic {AUTO} keeps a third of the calibration images back to judge by, and {len(images.indices)} "
            f"are too few: give {3 * FEWEST_JUDGES} or more, or another statistic"
        )
    return replace(images, indices=images.indices[-count:])


def _pixels(images: Images, card: ModelCard) -> NDArray[np.uint8]:
    """The first of the images, uint8 [n, S, S, 3]."""
    chosen = images.indices[:SAMPLE]
    return np.concatenate(list(batches(images.source, card.preprocess, chosen, CALIBRATION_BATCH)))


def _observed(
    model: onnx.ModelProto, float_onnx: StoredFile, images: Images, card: ModelCard, progress: Progress
) -> dict[str, TensorStatistics]:
    ids = [images.source.ids[index] for index in images.indices]
    with progress.stage("calibrating", len(images.indices), "images") as bar:
        pixels = counted(batches(images.source, card.preprocess, images.indices, CALIBRATION_BATCH), bar)
        return observe(float_onnx.path, pixels, observed_tensors(model), ids=ids)


def _equalized(folder: Path, card: ModelCard, model: onnx.ModelProto) -> StoredFile:
    path = folder / f"{card.name}-equalized.onnx"
    path.write_bytes(model.SerializeToString(deterministic=True))
    return stored_file(path)


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


def _written(
    folder: Path,
    card: ModelCard,
    model: onnx.ModelProto,
    float_onnx: StoredFile,
    table: QuantTable,
    source: str,
    warnings: tuple[str, ...],
) -> Quantized:
    save_table(table, folder / QPARAMS_FILE)
    path = folder / f"{card.name}-qdq.onnx"
    onnx.save(insert_qdq(model, table, "int8"), path)
    calibration = table.calibration
    return Quantized(
        table=table,
        table_file=stored_file(folder / QPARAMS_FILE),
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
