"""Where the quantization table comes from: it is decided from images, or taken from a file or the checkpoint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx

from rexnet_export.pipeline.checkpoint.load import LoadedCheckpoint
from rexnet_export.pipeline.checkpoint.metadata import QPARAMS_KEY
from rexnet_export.pipeline.core.errors import CheckpointError, ConversionError, UsageError, first_line
from rexnet_export.pipeline.core.progress import Progress
from rexnet_export.pipeline.core.records import StoredFile
from rexnet_export.pipeline.data.selection import Images
from rexnet_export.pipeline.export.inputs import Inputs
from rexnet_export.pipeline.export.max_drop import within
from rexnet_export.pipeline.export.options import Options
from rexnet_export.pipeline.export.quantized import Quantized, equalized, take, written
from rexnet_export.pipeline.export.search_table import Searched, find_table, pixels
from rexnet_export.pipeline.graph.float_graph import float_graph
from rexnet_export.pipeline.graph.outputs import tapped
from rexnet_export.pipeline.machine.heap import give_back
from rexnet_export.pipeline.report.report import Quality
from rexnet_export.quantization.calibration.channel_spread import spreads
from rexnet_export.quantization.onnx.simulate import simulator
from rexnet_export.quantization.rewrites.narrow import narrowed
from rexnet_export.quantization.rewrites.rewrite import apply
from rexnet_export.quantization.search.sensitivity import ranked_tensors, sensitivities
from rexnet_export.quantization.table.table import QuantTable
from rexnet_export.quantization.table.table_file import load_table, parse_table


def quantize(
    folder: Path, inputs: Inputs, options: Options, float_onnx: StoredFile, progress: Progress
) -> Quantized | None:
    """The table and the graphs that carry it, written into `folder`: from a file, from images, from the checkpoint, or
    none where INT8 was not asked for."""
    if options.qparams is not None:
        return take(folder, inputs.card, load_table(options.qparams), options.qparams.name, float_onnx)
    if inputs.calibration is not None:
        return calibrate(folder, inputs, inputs.calibration, options, float_onnx, progress)
    if options.precision == "int8" and (table := carried(inputs.checkpoint)):
        if options.max_drop is not None:
            raise UsageError(
                f"--max-drop {options.max_drop:g}: the checkpoint brings its table, which decides what is in float; "
                "give --calibration-data to make another, or leave it out"
            )
        return _take_carried(folder, inputs, table, float_onnx)
    return None


def calibrate(
    folder: Path, inputs: Inputs, images: Images, options: Options, float_onnx: StoredFile, progress: Progress
) -> Quantized:
    """Decide every scale from images, and write table and graphs into `folder`.

    The logits judge every choice, also where the network leaves without its head: its outputs are then declared
    beside the logits, and table and graph are narrowed to what they need. With `--max-drop` the images that set no
    range also judge, last of all, what must stay in float.
    """
    card, plain = inputs.card, onnx.load(float_onnx.path)
    whole = tapped(float_graph(inputs.checkpoint.network, card.preprocess), card.features) if card.features else plain
    found = find_table(whole, images, card.preprocess, options, progress, inputs.work)
    quality = _quality(found.searched, progress) if found.searched else None
    model, table, mixed = found.model, found.table, None
    if options.max_drop is not None:
        judge = simulator(model, pixels(found.held_back, card.preprocess, len(found.held_back.indices)))
        mixed = within(options.max_drop, model, table, judge, progress)
        table = mixed.table
    if card.features:
        table = narrowed(table, plain)
        model = apply(plain, table.rewrites)
    if table.rewrites:
        float_onnx = equalized(folder, card, model)
    made = written(folder, card, model, float_onnx, table, images.source.name, found.warnings)
    give_back()
    return replace(made, quality=quality, mixed=mixed)


def _quality(searched: Searched, progress: Progress) -> Quality:
    """What a search tried, and what INT8 still hurts."""
    draft, judge = searched.draft, searched.judge
    with progress.stage("finding what INT8 hurts", len(ranked_tensors(draft.model, draft.table)), "tensors") as bar:
        hurt = sensitivities(draft.model, draft.table, judge, bar.advance)
    return Quality(
        images=len(judge.images),
        classes=len(np.unique(judge.reference.argmax(1))),
        trials=draft.trials,
        spreads=spreads(draft.original, draft.statistics),
        cuts=draft.cuts,
        sensitivities=hurt,
    )


def _take_carried(folder: Path, inputs: Inputs, table: QuantTable, float_onnx: StoredFile) -> Quantized:
    name = inputs.checkpoint.file.path.name
    if inputs.card.features:
        try:
            table = narrowed(table, onnx.load(float_onnx.path))
        except ConversionError as error:
            raise UsageError(
                f"the quantization table in {name} rescales the backbone's own outputs; give --calibration-data to "
                "make another"
            ) from error
    return take(folder, inputs.card, table, name, float_onnx)


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
