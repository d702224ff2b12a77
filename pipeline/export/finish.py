"""From graphs and a table to a folder of proven files: the half of an export that needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from rexnet_export.pipeline.accuracy.margin import MARGIN
from rexnet_export.pipeline.accuracy.places import places_key
from rexnet_export.pipeline.accuracy.preprocess_check import PreprocessCheck
from rexnet_export.pipeline.artifact.manifest import MadeFrom, manifest
from rexnet_export.pipeline.artifact.provenance import statement
from rexnet_export.pipeline.artifact.sbom import sbom
from rexnet_export.pipeline.artifact.signature import Sign
from rexnet_export.pipeline.artifact.target import READING, OutputSession, Target
from rexnet_export.pipeline.core.files import (
    BACKBONE_FILE,
    MANIFEST_FILE,
    PLAIN_GRAPH,
    PROVENANCE_FILE,
    REPORT_FILE,
    SBOM_FILE,
    SIGNATURE_FILE,
)
from rexnet_export.pipeline.core.json import to_text
from rexnet_export.pipeline.core.progress import Progress
from rexnet_export.pipeline.core.records import Measurement, ModelCard, NotMeasured, Reading, StoredFile, stored_file
from rexnet_export.pipeline.core.reproducible import LEFT_OUT, is_reproducible
from rexnet_export.pipeline.data.selection import Images
from rexnet_export.pipeline.data.sources import batches
from rexnet_export.pipeline.data.thumbnails import thumbnails
from rexnet_export.pipeline.export.convert import converted, source_of
from rexnet_export.pipeline.export.max_drop import require_drop
from rexnet_export.pipeline.export.options import FULL, Options
from rexnet_export.pipeline.export.publish import publish, staging
from rexnet_export.pipeline.export.quantized import Quantized
from rexnet_export.pipeline.graph.parity import Parity
from rexnet_export.pipeline.graph.plain import write_plain_onnx
from rexnet_export.pipeline.proof.looks import Looks, looks
from rexnet_export.pipeline.proof.onnx_stages import chain
from rexnet_export.pipeline.proof.pieces import Workers
from rexnet_export.pipeline.proof.prove import Manner, Proof, prove
from rexnet_export.pipeline.proof.results import FileResult
from rexnet_export.pipeline.report.report import Report

PLAIN_IMAGES = 8
UNJUDGED = "INT8 was not searched for: precision, --effort fast, a ready table, or too few images"
UNBOUNDED = "no --max-drop was given"

type Render = Callable[[Report, Mapping[str, bytes]], str]


@dataclass(frozen=True, kw_only=True)
class Graphs:
    """All that files are made of and measured by: the float graph, its table, the images, and the reference.

    `parity` is how near the float graph is to torch; `judged` what was found of its preprocessing. Without a
    `checkpoint` the graphs are an earlier export's.
    """

    card: ModelCard
    float_onnx: StoredFile
    parity: Parity
    quantized: Quantized | None
    reference: OutputSession
    evaluation: Images
    judged: Measurement[PreprocessCheck]
    notices: tuple[str, ...]
    checkpoint: StoredFile | None = None
    reading: Reading = READING


class Clock:
    """Seconds between laps."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = perf_counter()

    def lap(self, name: str) -> None:
        """Note what has been done since the lap before."""
        now = perf_counter()
        self.laps[name], self._last = now - self._last, now


def write_plain(folder: Path, card: ModelCard, float_onnx: StoredFile, images: Images) -> None:
    """The float graph without its image front, held to the graph itself on a few images."""
    few = next(batches(images.source, card.preprocess, images.indices[:PLAIN_IMAGES], PLAIN_IMAGES))
    write_plain_onnx(float_onnx.path, card.preprocess, few, folder / f"{card.name}{PLAIN_GRAPH}")


def finish(
    folder: Path,
    graphs: Graphs,
    options: Options,
    targets: Sequence[Target],
    progress: Progress,
    clock: Clock,
    *,
    untimed: NotMeasured | None = None,
    workers: Workers | None = None,
) -> Report:
    """Convert, execute and measure, with the files in `folder`; `released` gives it pages and records."""
    card, quantized = graphs.card, graphs.quantized
    source = source_of(card, options, graphs.float_onnx, quantized, graphs.checkpoint, graphs.reading)
    artifacts = converted(targets, source, folder, progress)
    clock.lap("conversion")
    stages = chain(graphs.float_onnx, quantized.float_onnx if quantized else None, quantized.qdq if quantized else None)
    proof = prove(
        artifacts,
        stages if card.labels else {},
        graphs.reference,
        graphs.evaluation,
        source,
        progress,
        Manner(
            untimed=LEFT_OUT if is_reproducible() else untimed,
            workers=workers,
            looks=_looks(graphs, options),
        ),
    )
    clock.lap("proof")
    require_drop(options.max_drop, proof.targets)
    if proof.logits:
        _save_predictions(folder / "predictions.npz", graphs.evaluation, proof)
    return Report(
        card=card,
        notices=graphs.notices,
        preprocess_check=graphs.judged,
        precision=options.precision,
        reference=proof.reference,
        onnx_parity=graphs.parity,
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


def released(
    make: Callable[[Path], Report],
    options: Options,
    made: MadeFrom,
    evaluation: Images,
    progress: Progress,
    *,
    render: Render | None = None,
    sign: Sign | None = None,
) -> Report:
    """Have `make` fill a private folder, add what speaks of its files, and publish it in one step as the output.

    A run that fails or is interrupted leaves nothing behind. `made` is what the files were made from. `render` gives
    the page of a classifier; without it the record is a backbone's.
    """
    with staging(options.output, progress) as folder:
        report = make(folder)
        with progress.stage("writing the records", 2, "steps") as bar:
            if render:
                listed = () if isinstance(report.flips, NotMeasured) else report.flips.listed
                pictures = thumbnails(evaluation.source, [image.id for image in listed])
                (folder / "report.html").write_text(render(report, pictures), encoding="utf-8")
            bar.advance(1, "with the digests of all files")
            _save_records(folder, REPORT_FILE if render else BACKBONE_FILE, report, made, sign)
            bar.advance()
        publish(folder, options.output, progress)
    return _relocated(report, options.output)


def _save_records(folder: Path, name: str, report: Report, made: MadeFrom, sign: Sign | None) -> None:
    """The report, then what speaks of all files before it: bill of materials, manifest, provenance, signature."""
    (folder / name).write_text(to_text(report.to_json()), encoding="utf-8")
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


def _looks(graphs: Graphs, options: Options) -> Looks | None:
    """What emulated files are judged by: the gate's margin, and `--max-drop` where that is less."""
    if options.proof == FULL:
        return None
    points = MARGIN if options.max_drop is None else min(MARGIN, options.max_drop)
    return looks(graphs.evaluation, graphs.card, points / 100, options.seed)


def _save_predictions(path: Path, images: Images, proof: Proof) -> None:
    """`predictions.npz`: image ids, labels where known, and the logits of the reference, every graph and every file.

    Beside the logits of a file that was not asked about all images are the places of those that it was.
    """
    names = {name: name.replace(" ", "-") for name in proof.logits}
    arrays: dict[str, NDArray[np.generic]] = {
        "ids": np.array([images.source.ids[index] for index in images.indices]),
        **{names[name]: values for name, values in proof.logits.items()},
        **{places_key(names[name]): places.astype(np.uint32) for name, places in proof.places.items()},
    }
    if images.labels is not None:
        arrays["labels"] = images.labels
    with path.open("wb") as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]


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
