"""The one loop: checkpoint -> float ONNX -> table -> artifacts -> proof -> report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from rexnet_export.pipeline.accuracy.preprocess_check import PreprocessCheck, check_preprocess
from rexnet_export.pipeline.artifact.manifest import MadeFrom, made_from
from rexnet_export.pipeline.artifact.signature import Sign
from rexnet_export.pipeline.artifact.target import Target
from rexnet_export.pipeline.checkpoint.metadata import QPARAMS_KEY
from rexnet_export.pipeline.core.progress import Progress
from rexnet_export.pipeline.core.records import Measurement, NotMeasured, Preprocess, StoredFile
from rexnet_export.pipeline.data.sources import batches
from rexnet_export.pipeline.export.finish import Clock, Graphs, Render, finish, released, write_plain
from rexnet_export.pipeline.export.inputs import Inputs, gather, gather_backbone
from rexnet_export.pipeline.export.options import Options
from rexnet_export.pipeline.export.quantize import quantize
from rexnet_export.pipeline.export.recorded import recorded, without_folders
from rexnet_export.pipeline.graph.check_parity import check_parity
from rexnet_export.pipeline.graph.float_graph import write_float_onnx
from rexnet_export.pipeline.graph.parity import Parity
from rexnet_export.pipeline.machine.shared_work import SharedWork
from rexnet_export.pipeline.model.backbone import Backbone
from rexnet_export.pipeline.model.remembered import RememberedSession, remembered
from rexnet_export.pipeline.model.rexnet import ReXNet
from rexnet_export.pipeline.model.torch_session import TorchSession, open_reference
from rexnet_export.pipeline.proof.pieces import Workers
from rexnet_export.pipeline.report.report import Report

PARITY_IMAGES = 64


def export(
    options: Options,
    targets: Sequence[Target],
    progress: Progress,
    render: Render,
    sign: Sign | None = None,
    *,
    untimed: NotMeasured | None = None,
    work: SharedWork | None = None,
    workers: Workers | None = None,
) -> Report:
    """Make, execute and measure everything asked for, and write the output folder.

    What `export.possible` refuses is not asked again. `render` gives the content of `report.html` from the report and
    pictures (PNG) of the images it lists, by id; `sign` signs the statement on all files. `untimed` is why no file's
    speed is to be measured; `work` is what other exports share with this one, and `workers` may run pieces of many
    evaluation images.
    """
    inputs, judged = _noticed(gather(options, progress).sharing(work), options, progress)

    def make(folder: Path) -> Report:
        clock = Clock()
        graphs = _graphs(folder, options, inputs, judged, progress, clock)
        return finish(folder, graphs, options, targets, progress, clock, untimed=untimed, workers=workers)

    return released(make, options, _made(options, inputs), inputs.evaluation, progress, render=render, sign=sign)


def export_backbone(
    options: Options, targets: Sequence[Target], progress: Progress, sign: Sign | None = None
) -> Report:
    """The same for the network without its head: feature maps leave it, and nothing is said of classes."""
    inputs, judged = _noticed(gather_backbone(options, progress), options, progress)

    def make(folder: Path) -> Report:
        clock = Clock()
        return finish(
            folder, _graphs(folder, options, inputs, judged, progress, clock), options, targets, progress, clock
        )

    return released(make, options, _made(options, inputs), inputs.evaluation, progress, sign=sign)


def _noticed(inputs: Inputs, options: Options, progress: Progress) -> tuple[Inputs, Measurement[PreprocessCheck]]:
    """Say what a person has to know before any figure, first of all whether the preprocessing looks wrong."""

    def opened(preprocess: Preprocess) -> TorchSession | RememberedSession:
        return remembered(open_reference(inputs.checkpoint.network, preprocess), inputs.work)

    judged = check_preprocess(opened, inputs.evaluation, inputs.card.preprocess, progress)
    if not isinstance(judged, NotMeasured) and judged.notice:
        inputs = replace(inputs, notices=(judged.notice, *inputs.notices))
    for notice in inputs.notices:
        progress.note(notice)
    return replace(inputs, notices=tuple(without_folders(notice, options) for notice in inputs.notices)), judged


def _made(options: Options, inputs: Inputs) -> MadeFrom:
    metadata = {key: text for key, text in inputs.checkpoint.metadata.items() if key != QPARAMS_KEY}
    return made_from(inputs.checkpoint.file, recorded(options), metadata)


def _graphs(
    folder: Path,
    options: Options,
    inputs: Inputs,
    judged: Measurement[PreprocessCheck],
    progress: Progress,
    clock: Clock,
) -> Graphs:
    """The float graph, held to the network, and the table with the graph that carries it, as files in `folder`."""
    card = inputs.card
    network = Backbone(inputs.checkpoint.network) if card.features else inputs.checkpoint.network
    with progress.stage("making the float graph", 3, "steps") as bar:
        float_onnx = write_float_onnx(inputs.checkpoint.network, card, folder / f"{card.name}-float.onnx")
        bar.advance(note="comparing it with torch")
        parity = _parity(network, inputs, float_onnx)
        bar.advance(note="writing its plain form")
        write_plain(folder, card, float_onnx, inputs.evaluation)
        bar.advance()
    clock.lap("float graph")
    quantized = quantize(folder, inputs, options, float_onnx, progress)
    if quantized and quantized.float_onnx != float_onnx:
        with progress.stage("comparing the rewritten graph with torch", 1, "graphs") as bar:
            parity = _parity(network, inputs, quantized.float_onnx)  # rewriting changed nothing that float could show
            bar.advance()
    clock.lap("quantization")
    return Graphs(
        card=card,
        float_onnx=float_onnx,
        parity=parity,
        quantized=quantized,
        reference=remembered(open_reference(network, card.preprocess), inputs.work),
        evaluation=inputs.evaluation,
        judged=judged,
        notices=inputs.notices,
        checkpoint=inputs.checkpoint.file,
        reading=inputs.reading,
    )


def _parity(network: ReXNet | Backbone, inputs: Inputs, float_onnx: StoredFile) -> Parity:
    images = inputs.evaluation
    chosen = images.indices[:PARITY_IMAGES]
    pixels = np.concatenate(list(batches(images.source, inputs.card.preprocess, chosen, PARITY_IMAGES)))
    ids = [images.source.ids[index] for index in chosen]
    return check_parity(network, float_onnx.path, pixels, inputs.card.preprocess, ids)
