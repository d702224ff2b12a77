"""Further targets from a finished export: its float graph and its table again, without checkpoint, images or torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from rexnet_export.pipeline.artifact.manifest import made_from
from rexnet_export.pipeline.artifact.signature import Sign
from rexnet_export.pipeline.artifact.target import Target
from rexnet_export.pipeline.core.files import QPARAMS_FILE
from rexnet_export.pipeline.core.progress import Progress
from rexnet_export.pipeline.core.records import NotMeasured, StoredFile, stored_file, write_whole
from rexnet_export.pipeline.data.selection import Images
from rexnet_export.pipeline.data.sources import bundled, remarks
from rexnet_export.pipeline.export.evaluation_images import (
    evaluation_images,
    lines,
    open_labelled,
    samples_fit,
    subset,
)
from rexnet_export.pipeline.export.finish import Clock, Graphs, Render, finish, released, write_plain
from rexnet_export.pipeline.export.options import Options
from rexnet_export.pipeline.export.quantized import Quantized, take
from rexnet_export.pipeline.export.recorded import recorded, without_folders
from rexnet_export.pipeline.finished.earlier import Earlier, read_earlier
from rexnet_export.pipeline.graph.onnx_outputs import onnx_outputs
from rexnet_export.pipeline.proof.onnx_stages import GraphSession
from rexnet_export.pipeline.report.report import Report
from rexnet_export.quantization.table.table_file import load_table

UNJUDGED = NotMeasured(reason="the earlier export judged its preprocessing with torch")
HELD = "of the float graph (held to torch by an earlier export)"
TABLE = f"{QPARAMS_FILE} of the earlier export"


def export_further(
    folder: Path, options: Options, targets: Sequence[Target], progress: Progress, render: Render, sign: Sign | None
) -> Report:
    """Make, execute and measure further targets of the export in `folder`, and write the output folder.

    The table, the graphs, labels and preprocessing are the earlier export's; whatever is made again of them has to be
    the same, digit for digit. The reference is the float graph in ONNX Runtime. `render` and `sign` are as in `export`.
    """
    earlier = read_earlier(folder, options)
    evaluation, found = _images(earlier, options, progress)
    notices = lines(_origin(earlier), *found)
    for notice in notices:
        progress.note(notice)
    notices = tuple(without_folders(notice, options) for notice in notices)

    def make(into: Path) -> Report:
        clock = Clock()
        graphs = _graphs(into, earlier, options, evaluation, notices, progress, clock)
        return finish(into, graphs, options, targets, progress, clock)

    made = made_from(earlier.manifest, recorded(options), {})
    return released(make, options, made, evaluation, progress, render=render, sign=sign)


def _images(earlier: Earlier, options: Options, progress: Progress) -> tuple[Images, tuple[str | None, ...]]:
    """The images to measure on, and what is to be said of them."""
    card = earlier.card
    if card.numbers:
        options.refuse_classes("a network that gives numbers")
    labelled = open_labelled(options, card.preprocess.channels, numbers=bool(card.numbers))
    if labelled is None and samples_fit(card.labels, card.preprocess.channels):
        labelled = bundled("evaluation")
    as_many = None if options.eval_data else earlier.images
    asked = replace(options, eval_images=options.eval_images or as_many)
    images = evaluation_images(labelled, None, card, asked, progress)
    return images, (
        _told(len(images.indices), earlier.images, len(images.source)) if asked != options else None,
        *(remarks(labelled) if labelled else ()),
        images.remark,
        subset(labelled, card.labels),
    )


def _told(count: int, earlier: int, most: int) -> str | None:
    if count != earlier:
        return f"measured on {count:,} images, the earlier export on {earlier:,}; name its images with --eval-data DIR"
    if count == most:
        return None
    return f"measured on as many images as the earlier export, {count:,}; --eval-images N asks for more"


def _origin(earlier: Earlier) -> str:
    return (
        f"made from the graphs of an earlier export (manifest.json, SHA-256 {earlier.manifest.sha256[:12]}): nothing "
        "is calibrated, and the float graph is not compared with torch again"
    )


def _graphs(
    folder: Path,
    earlier: Earlier,
    options: Options,
    evaluation: Images,
    notices: tuple[str, ...],
    progress: Progress,
    clock: Clock,
) -> Graphs:
    """The earlier float graph, and the table with the graph that carries it, as files in `folder`."""
    card = earlier.card
    path = folder / f"{card.name}-float.onnx"
    with progress.stage("making the graphs again", 2, "graphs") as bar:
        write_whole(path, earlier.graph)
        float_onnx = stored_file(path)
        write_plain(folder, card, float_onnx, evaluation)
        clock.lap("float graph")
        bar.advance(1, "float")
        quantized = _quantized(folder, earlier, float_onnx) if options.precision == "int8" else None
        clock.lap("quantization")
        bar.advance()
    return Graphs(
        card=card,
        float_onnx=float_onnx,
        parity=earlier.parity,
        quantized=quantized,
        reference=GraphSession(
            runner=onnx_outputs(float_onnx.path),
            executed_by=f"ONNX Runtime {version('onnxruntime')}, {HELD}",
        ),
        evaluation=evaluation,
        judged=UNJUDGED,
        notices=notices,
    )


def _quantized(folder: Path, earlier: Earlier, float_onnx: StoredFile) -> Quantized:
    quantized = take(folder, earlier.card, load_table(earlier.folder / QPARAMS_FILE), TABLE, float_onnx)
    for file in (quantized.table_file, quantized.float_onnx, quantized.qdq):
        earlier.require_same(file)
    return quantized
