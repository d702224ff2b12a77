"""The quantization table and the graphs that carry it: decided from images, or taken from a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from rexnet_export.pipeline.checkpoint import LoadedCheckpoint
from rexnet_export.pipeline.checkpoint_metadata import QPARAMS_KEY
from rexnet_export.pipeline.data import batches, images_sha256
from rexnet_export.pipeline.errors import CheckpointError, ConversionError, DataError, first_line
from rexnet_export.pipeline.inputs import Images
from rexnet_export.pipeline.max_drop import judges_for, within
from rexnet_export.pipeline.options import FAST, HIGH, Options
from rexnet_export.pipeline.progress import Progress, counted
from rexnet_export.pipeline.records import ModelCard, StoredFile, stored_file
from rexnet_export.pipeline.release import QPARAMS_FILE
from rexnet_export.pipeline.report import CalibrationResult, Quality
from rexnet_export.pipeline.rounding import learn_rounding
from rexnet_export.quantization.calibration_check import check_images, check_statistics
from rexnet_export.quantization.edited import refitted
from rexnet_export.quantization.graph import view
from rexnet_export.quantization.islands import check_islands
from rexnet_export.quantization.mixed import Mixed
from rexnet_export.quantization.observe import TensorStatistics, observe
from rexnet_export.quantization.qdq import insert_qdq
from rexnet_export.quantization.ranges import AUTO
from rexnet_export.quantization.rewrites import apply
from rexnet_export.quantization.scheme import observed_tensors
from rexnet_export.quantization.search import (
    Draft,
    Evidence,
    corrected,
    equalized,
    grouped,
    judged,
    predicted,
    ranges_chosen,
    search,
)
from rexnet_export.quantization.sensitivity import ranked_tensors, sensitivities
from rexnet_export.quantization.simulate import simulator
from rexnet_export.quantization.spread import spreads
from rexnet_export.quantization.table import Calibration, QuantTable, parse_table, save_table

CALIBRATION_BATCH = 8
SAMPLE = 256  # images that are looked at, judged by, or corrected on; held in memory
FEWEST_JUDGES = 8
PLAIN = "min-max"
FEW_JUDGES = f"too few images to judge INT8 by ({{}}), so it is quantized as with --effort {FAST}"
OBSERVED_FILE = ".observed.onnx"


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


def calibrate(
    folder: Path, card: ModelCard, images: Images, options: Options, float_onnx: StoredFile, progress: Progress
) -> Quantized:
    """Decide every scale from images, and write table and graphs into `folder`.

    Beyond `--effort fast` a third of the images set no range: they judge what the others propose. With `--max-drop`
    they also judge, last of all, what must stay in float.
    """
    judges = _judges(options, len(images.indices))
    held = judges_for(options.max_drop, judges, len(images.indices))
    held_back = replace(images, indices=images.indices[len(images.indices) - held :])
    seen = replace(images, indices=images.indices[: len(images.indices) - held])
    sample = _pixels(seen, card)
    few = [] if judges or options.effort == FAST else [FEW_JUDGES.format(len(images.indices))]
    found = check_images(sample, [seen.source.ids[index] for index in seen.indices[:SAMPLE]], card.preprocess)
    warnings = _noted(progress, [*few, *found])
    statistic = options.statistic or (AUTO if judges else PLAIN)
    calibration = Calibration(
        images_sha256=images_sha256(images.source, images.indices),
        images=len(images.indices),
        statistic=statistic,
        seed=options.seed,
    )
    model, observed = onnx.load(float_onnx.path), partial(_observed, folder, seen, card, progress)
    quality = None
    if judges:
        evidence = Evidence(
            observe=observed,
            sample=sample,
            judge=simulator(model, _pixels(held_back, card, held)),
            calibration=calibration,
            plain=PLAIN if statistic == AUTO else statistic,
        )
        draft = _searched(model, evidence, options, progress)
        with progress.stage("finding what INT8 hurts", len(ranked_tensors(draft.model, draft.table)), "tensors") as bar:
            hurt = sensitivities(draft.model, draft.table, evidence.judge, bar.advance)
        model, statistics, table = draft.model, draft.statistics, draft.table
        quality = Quality(
            images=held,
            trials=draft.trials,
            spreads=spreads(draft.original, statistics),
            cuts=draft.cuts,
            sensitivities=hurt,
        )
    else:
        model, statistics, table = predicted(model, observed, calibration)
    if statistic != AUTO:
        warnings += _noted(progress, check_statistics(statistics, dict.fromkeys(statistics, statistic)))
    if table.rewrites:
        float_onnx = _equalized(folder, card, model)
    mixed = None
    if options.max_drop is not None:
        mixed = within(options.max_drop, model, table, simulator(model, _pixels(held_back, card, held)), progress)
        table = mixed.table
    written = _written(folder, card, model, float_onnx, table, images.source.name, warnings)
    return replace(written, quality=quality, mixed=mixed)


def _searched(model: onnx.ModelProto, evidence: Evidence, options: Options, progress: Progress) -> Draft:
    """The draft after all steps that the effort and the statistic ask for."""
    steps = [equalized, grouped, *([] if options.statistic not in {None, AUTO} else [ranges_chosen]), corrected]
    with progress.stage("choosing", len(steps) + 1, "steps") as bar:
        draft = search(model, evidence, steps, lambda name: bar.advance(1, name.replace("_", " ")))
    if options.effort != HIGH:
        return draft
    table = learn_rounding(draft.model, draft.table, evidence.sample, progress)
    return judged(draft, table, evidence.judge, "rounding learned")


def _observed(
    folder: Path, images: Images, card: ModelCard, progress: Progress, model: onnx.ModelProto
) -> dict[str, TensorStatistics]:
    path, ids = folder / OBSERVED_FILE, [images.source.ids[index] for index in images.indices]
    path.write_bytes(model.SerializeToString(deterministic=True))
    try:
        with progress.stage("calibrating", len(images.indices), "images") as bar:
            pixels = counted(batches(images.source, card.preprocess, images.indices, CALIBRATION_BATCH), bar)
            return observe(path, pixels, observed_tensors(model), ids=ids)
    finally:
        path.unlink()


def _judges(options: Options, images: int) -> int:
    """How many of the images are held back; none where nothing is to be judged."""
    count = min(SAMPLE, images // 3)
    if options.effort == FAST and options.statistic != AUTO:
        return 0
    if count >= FEWEST_JUDGES:
        return count
    if options.statistic == AUTO or options.effort == HIGH:
        asked = f"--statistic {AUTO}" if options.statistic == AUTO else f"--effort {HIGH}"
        raise DataError(
            f"{asked} keeps a third of the calibration images back to judge by, and {images} are too few: give "
            f"{3 * FEWEST_JUDGES} or more"
        )
    return 0


def _noted(progress: Progress, warnings: Sequence[str]) -> tuple[str, ...]:
    """Say the warnings before minutes are spent on what they warn of."""
    for warning in warnings:
        progress.note(f"calibration: {warning}")
    return tuple(warnings)


def take(folder: Path, card: ModelCard, table: QuantTable, source: str, float_onnx: StoredFile) -> Quantized:
    """Use a table, which a person may have edited, for the network it was made for; `source` says where it was."""
    model = onnx.load(float_onnx.path)
    if table.rewrites:
        model = apply(model, table.rewrites)
        float_onnx = _equalized(folder, card, model)
    return _written(folder, card, model, float_onnx, refitted(model, table), f"{source}, without calibrating", ())


def _pixels(images: Images, card: ModelCard, count: int = SAMPLE) -> NDArray[np.uint8]:
    """The first of the images, uint8 [n, S, S, 3]."""
    chosen = images.indices[:count]
    return np.concatenate(list(batches(images.source, card.preprocess, chosen, CALIBRATION_BATCH)))


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
    check_islands(view(model), table)
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
