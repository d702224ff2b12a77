"""The one loop: checkpoint -> float ONNX -> table -> artifacts -> proof -> report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from rexnet_export.pipeline.accuracy.evaluate import Logits
from rexnet_export.pipeline.accuracy.preprocess_check import PreprocessCheck, check_preprocess
from rexnet_export.pipeline.artifact.manifest import made_from, manifest
from rexnet_export.pipeline.artifact.provenance import statement
from rexnet_export.pipeline.artifact.sbom import sbom
from rexnet_export.pipeline.artifact.signature import Sign
from rexnet_export.pipeline.artifact.target import Target
from rexnet_export.pipeline.checkpoint.metadata import QPARAMS_KEY
from rexnet_export.pipeline.core.files import (
    BACKBONE_FILE,
    MANIFEST_FILE,
    PROVENANCE_FILE,
    REPORT_FILE,
    SBOM_FILE,
    SIGNATURE_FILE,
)
from rexnet_export.pipeline.core.json import to_text
from rexnet_export.pipeline.core.progress import Progress
from rexnet_export.pipeline.core.records import Measurement, NotMeasured, StoredFile, stored_file
from rexnet_export.pipeline.core.reproducible import LEFT_OUT, is_reproducible
from rexnet_export.pipeline.data.selection import Images
from rexnet_export.pipeline.data.sources import batches
from rexnet_export.pipeline.data.thumbnails import thumbnails
from rexnet_export.pipeline.export.apart import require_apart
from rexnet_export.pipeline.export.convert import converted, require_targets, source_of
from rexnet_export.pipeline.export.inputs import Inputs, gather, gather_backbone
from rexnet_export.pipeline.export.max_drop import require_drop
from rexnet_export.pipeline.export.options import Options
from rexnet_export.pipeline.export.publish import publish, staging
from rexnet_export.pipeline.export.quantize import quantize
from rexnet_export.pipeline.export.recorded import recorded, without_folders
from rexnet_export.pipeline.graph.float_graph import write_float_onnx
from rexnet_export.pipeline.graph.parity import Parity, check_parity
from rexnet_export.pipeline.graph.plain import write_plain_onnx
from rexnet_export.pipeline.machine.shared_work import SharedWork
from rexnet_export.pipeline.model.backbone import Backbone
from rexnet_export.pipeline.model.remembered import remembered
from rexnet_export.pipeline.model.rexnet import ReXNet
from rexnet_export.pipeline.model.torch_session import open_reference
from rexnet_export.pipeline.proof.onnx_stages import chain
from rexnet_export.pipeline.proof.pieces import Workers
from rexnet_export.pipeline.proof.prove import prove
from rexnet_export.pipeline.proof.results import FileResult
from rexnet_export.pipeline.report.report import Report

PARITY_IMAGES = 64
PLAIN_IMAGES = 8
UNJUDGED = "INT8 was not searched for: precision, --effort fast, a ready table, or too few images"
UNBOUNDED = "no --max-drop was given"

type Render = Callable[[Report, Mapping[str, bytes]], str]


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

    Files are written in a private folder and published in one step when all is done, so that a run that fails or is
    interrupted leaves nothing behind. `render` gives the content of `report.html` from the report and
    pictures (PNG) of the images it lists, by id; `sign` signs the statement on all files. `untimed` is why no file's
    speed is to be measured; `work` is what other exports share with this one, and `workers` may run pieces of many
    evaluation images.
    """
    _require_possible(targets, options)
    inputs, judged = _noticed(gather(options, progress).sharing(work), options, progress)
    with staging(options.output, progress) as folder:
        report = _export_into(folder, options, inputs, judged, targets, progress, untimed, workers)
        listed = () if isinstance(report.flips, NotMeasured) else report.flips.listed
        pictures = thumbnails(inputs.evaluation.source, [image.id for image in listed])
        (folder / "report.html").write_text(render(report, pictures), encoding="utf-8")
        _save_records(folder, REPORT_FILE, report, options, inputs, sign)
        publish(folder, options.output, progress)
    return _relocated(report, options.output)


def export_backbone(
    options: Options, targets: Sequence[Target], progress: Progress, sign: Sign | None = None
) -> Report:
    """The same for the network without its head: feature maps leave it, and nothing is said of classes."""
    _require_possible(targets, options)
    inputs, judged = _noticed(gather_backbone(options, progress), options, progress)
    with staging(options.output, progress) as folder:
        report = _export_into(folder, options, inputs, judged, targets, progress)
        _save_records(folder, BACKBONE_FILE, report, options, inputs, sign)
        publish(folder, options.output, progress)
    return _relocated(report, options.output)


def _require_possible(targets: Sequence[Target], options: Options) -> None:
    require_targets(targets, options.precision)
    require_apart(options)


def _noticed(inputs: Inputs, options: Options, progress: Progress) -> tuple[Inputs, Measurement[PreprocessCheck]]:
    """Say what a person has to know before any figure, first of all whether the preprocessing looks wrong."""
    judged = check_preprocess(
        inputs.checkpoint.network, inputs.evaluation, inputs.card.preprocess, progress, inputs.work
    )
    if not isinstance(judged, NotMeasured) and judged.notice:
        inputs = replace(inputs, notices=(judged.notice, *inputs.notices))
    for notice in inputs.notices:
        progress.note(notice)
    return replace(inputs, notices=tuple(without_folders(notice, options) for notice in inputs.notices)), judged


def _save_records(folder: Path, name: str, report: Report, options: Options, inputs: Inputs, sign: Sign | None) -> None:
    """The report, then what speaks of all files before it: bill of materials, manifest, provenance, signature."""
    (folder / name).write_text(to_text(report.to_json()), encoding="utf-8")
    metadata = {key: text for key, text in inputs.checkpoint.metadata.items() if key != QPARAMS_KEY}
    made = made_from(inputs.checkpoint.file, recorded(options), metadata)
    stored = {path.name: stored_file(path) for path in folder.iterdir()}
    bill = to_text(sbom(report.card.name, stored, made, report.created))
    (folder / SBOM_FILE).write_text(bill, encoding="utf-8")
    stored[SBOM_FILE] = stored_file(folder / SBOM_FILE)
    (folder / MANIFEST_FILE).write_text(to_text(manifest(stored, made).to_json()), encoding="utf-8")
    images = {"evaluation images": report.reference.images_sha256}
    if report.calibration:
        images["calibration images"] = report.calibration.images_sha256
    stated = to_text(statement(folder, made, images, report.created)).encode()
    (folder / PROVENANCE_FILE).write_bytes(stated)
    if sign:
        (folder / SIGNATURE_FILE).write_bytes(sign(stated))


def _export_into(
    folder: Path,
    options: Options,
    inputs: Inputs,
    judged: Measurement[PreprocessCheck],
    targets: Sequence[Target],
    progress: Progress,
    untimed: NotMeasured | None = None,
    workers: Workers | None = None,
) -> Report:
    card = inputs.card
    network = Backbone(inputs.checkpoint.network) if card.features else inputs.checkpoint.network
    clock = _Clock()
    float_onnx = write_float_onnx(inputs.checkpoint.network, card, folder / f"{card.name}-float.onnx")
    parity = _parity(network, inputs, float_onnx)
    few = next(
        batches(inputs.evaluation.source, card.preprocess, inputs.evaluation.indices[:PLAIN_IMAGES], PLAIN_IMAGES)
    )
    write_plain_onnx(float_onnx.path, card.preprocess, few, folder / f"{card.name}-float-nchw.onnx")
    clock.lap("float graph")
    quantized = quantize(folder, inputs, options, float_onnx, progress)
    if quantized and quantized.float_onnx != float_onnx:
        parity = _parity(network, inputs, quantized.float_onnx)  # rewriting changed nothing a float network could show
    clock.lap("quantization")
    source = source_of(card, options, inputs, float_onnx, quantized)
    artifacts = converted(targets, source, folder, progress)
    clock.lap("conversion")
    reference = remembered(open_reference(network, card.preprocess), inputs.work)
    graphs = chain(float_onnx, quantized.float_onnx if quantized else None, quantized.qdq if quantized else None)
    proof = prove(
        artifacts,
        graphs if card.labels else {},
        reference,
        inputs.evaluation,
        source,
        progress,
        untimed=LEFT_OUT if is_reproducible() else untimed,
        workers=workers,
    )
    clock.lap("proof")
    require_drop(options.max_drop, proof.targets)
    if proof.logits:
        _save_predictions(folder / "predictions.npz", inputs.evaluation, proof.logits)
    return Report(
        card=card,
        notices=inputs.notices,
        preprocess_check=judged,
        precision=options.precision,
        reference=proof.reference,
        onnx_parity=parity,
        stages=proof.stages,
        calibration=quantized.calibration if quantized else None,
        quality=(quantized and quantized.quality) or NotMeasured(reason=UNJUDGED),
        mixed=(quantized and quantized.mixed) or NotMeasured(reason=UNBOUNDED),
        table=source.table,
        targets=proof.targets,
        layers=proof.layers,
        flips=proof.flips,
        classes=proof.classes,
        image_noise=proof.image_noise,
        seconds=LEFT_OUT if is_reproducible() else clock.laps,
        output=options.output,
    )


def _parity(network: ReXNet | Backbone, inputs: Inputs, float_onnx: StoredFile) -> Parity:
    images = inputs.evaluation
    chosen = images.indices[:PARITY_IMAGES]
    pixels = np.concatenate(list(batches(images.source, inputs.card.preprocess, chosen, PARITY_IMAGES)))
    ids = [images.source.ids[index] for index in chosen]
    return check_parity(network, float_onnx.path, pixels, inputs.card.preprocess, ids)


def _save_predictions(path: Path, images: Images, logits: Mapping[str, Logits]) -> None:
    """`predictions.npz`: image ids, labels where known, and the logits of the reference, every graph and every file."""
    arrays: dict[str, NDArray[np.generic]] = {
        "ids": np.array([images.source.ids[index] for index in images.indices]),
        **{name.replace(" ", "-"): values for name, values in logits.items()},
    }
    if images.labels is not None:
        arrays["labels"] = images.labels
    with path.open("wb") as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]


class _Clock:
    """Seconds between laps."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = perf_counter()

    def lap(self, name: str) -> None:
        now = perf_counter()
        self.laps[name], self._last = now - self._last, now


def _relocated(report: Report, output: Path) -> Report:
    """The report with the files where they are now."""

    def moved(result: FileResult) -> FileResult:
        return replace(result, file=replace(result.file, path=output / result.file.path.name))

    return replace(
        report,
        targets={
            name: replace(
                target,
                artifact=moved(target.artifact),
                presets={preset: moved(result) for preset, result in target.presets.items()},
            )
            for name, target in report.targets.items()
        },
    )
