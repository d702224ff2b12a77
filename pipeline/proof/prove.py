"""Proof of finished artifacts: read back, executed on the evaluation images, timed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rexnet_export.pipeline.artifact.metadata import card_from
from rexnet_export.pipeline.artifact.target import OutputSession, Source, Target, require_int8
from rexnet_export.pipeline.core.errors import ConversionError, TargetUnavailable
from rexnet_export.pipeline.core.outputs import answer
from rexnet_export.pipeline.core.progress import Progress
from rexnet_export.pipeline.core.records import Artifact, Measurement, ModelCard, NotMeasured, Preprocess, StoredFile
from rexnet_export.pipeline.data.selection import Images
from rexnet_export.pipeline.data.sources import batches, images_sha256
from rexnet_export.pipeline.proof import evaluate
from rexnet_export.pipeline.proof.compare import TensorComparison, TensorDifference
from rexnet_export.pipeline.proof.evaluate import Logits
from rexnet_export.pipeline.proof.flips import Flips, flips
from rexnet_export.pipeline.proof.latency import Latency, measure
from rexnet_export.pipeline.proof.onnx_stages import UNLABELLED, StageName, open_stages, stage_results
from rexnet_export.pipeline.proof.results import FileResult, ReadBack, Reference, StageResult, TargetResult
from rexnet_export.pipeline.proof.tensor_noise import Layers, tensor_noise
from rexnet_export.quantization.table.params import QuantParams
from rexnet_export.quantization.table.table import QuantTable

REFERENCE = "reference"
BIAS_BITS = 32
NO_CLASSES = NotMeasured(reason="a network without its head has no classes; its outputs are compared one by one")
IDENTICAL = NotMeasured(reason="the logits equal the reference's, so there is no noise to measure")


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What running everything on the evaluation images gave."""

    reference: Reference
    stages: Mapping[str, StageResult]
    targets: Mapping[str, TargetResult]
    layers: Layers
    flips: Measurement[Flips]
    logits: Mapping[str, Logits]


@dataclass(frozen=True, kw_only=True)
class _Candidate:
    """One file to prove: a target's artifact, or a preset of it."""

    target: Target
    artifact: Artifact
    session: Measurement[OutputSession]


@dataclass(frozen=True, kw_only=True)
class _Run:
    """What one session gave: its answers [n, answers], and each output beside the reference's."""

    answers: Logits
    outputs: tuple[TensorDifference, ...]


def prove(
    artifacts: Sequence[tuple[Target, Artifact]],
    graphs: Mapping[StageName, StoredFile],
    reference: OutputSession,
    images: Images,
    source: Source,
    progress: Progress,
) -> Proof:
    """Read every file back, and execute those that can be executed here beside the reference on the same images.

    `graphs` are the ONNX graphs the artifacts were made from; they run too. What speaks of classes is not measured of
    a network without a head.
    """
    card = source.card
    candidates = {
        name: candidate for target, artifact in artifacts for name, candidate in _candidates(target, artifact).items()
    }
    read = {name: read_back(c.target, c.artifact, card, source.table) for name, c in candidates.items()}
    sessions = {name: c.session for name, c in candidates.items() if not isinstance(c.session, NotMeasured)}
    runs = _run(reference, open_stages(graphs) | sessions, images, card.preprocess, progress)
    first = next(batches(images.source, card.preprocess, images.indices[:1], 1))
    timed = {name: session.outputs for name, session in sessions.items() if session.timed}
    latencies = measure(timed, first, progress) if timed else {}
    traced = {target.name: sessions[target.name] for target, _ in artifacts if target.name in sessions}
    results = {
        name: _file_result(candidate, images, runs.get(name), runs[REFERENCE].answers, latencies.get(name), source)
        for name, candidate in candidates.items()
    }
    logits = {} if card.features else {name: run.answers for name, run in runs.items()}
    return Proof(
        reference=Reference(
            executed_by=reference.executed_by,
            images=images.source.name,
            images_sha256=images_sha256(images.source, images.indices),
            n=len(images.indices),
            top1=_of_classes(card, images) or evaluate.top1(logits[REFERENCE], _labels(images)),
        ),
        stages=stage_results(graphs, logits, runs[REFERENCE].answers, images),
        targets={
            target.name: TargetResult(
                precision=artifact.precision,
                artifact=results[target.name],
                presets={preset: results[f"{target.name} {preset}"] for preset in artifact.presets},
                qparams_read=read[target.name],
            )
            for target, artifact in artifacts
        },
        layers=tensor_noise(source.float_onnx.path, traced, images, card.preprocess),
        flips=NO_CLASSES if card.features else _flips(logits, sessions, images, card),
        logits=logits,
    )


def _of_classes(card: ModelCard, images: Images) -> NotMeasured | None:
    """Why top-1 is not measured, if it is not."""
    if card.features:
        return NO_CLASSES
    return UNLABELLED if images.labels is None else None


def _labels(images: Images) -> NDArray[np.int64]:
    assert images.labels is not None
    return images.labels


def _flips(logits: Mapping[str, Logits], sessions: Iterable[str], images: Images, card: ModelCard) -> Flips:
    ids = [images.source.ids[index] for index in images.indices]
    return flips(logits[REFERENCE], {name: logits[name] for name in sessions}, ids, images.labels, card.labels)


def _run(
    reference: OutputSession,
    sessions: Mapping[str, OutputSession],
    images: Images,
    preprocess: Preprocess,
    progress: Progress,
) -> dict[str, _Run]:
    """Run the reference and every session, each image decoded once.

    A file that gives the reference's own outputs, digit for digit, on the first images stands for it on the others:
    a saved float network in the same runtime need not be run twice.
    """
    few = next(batches(images.source, preprocess, images.indices[: evaluate.BATCH], evaluate.BATCH))
    expected = reference.outputs(few)
    same = [name for name, session in sessions.items() if session.executed_by == reference.executed_by]
    twin = next((name for name in same if _equal_outputs(sessions[name].outputs(few), expected)), None)
    running = {name: session for name, session in sessions.items() if name != twin}
    answers: dict[str, list[Logits]] = {name: [] for name in (REFERENCE, *running)}
    comparisons = {name: TensorComparison({}) for name in (REFERENCE, *running)}
    with progress.stage(f"running {1 + len(running)} networks", len(images.indices), "images") as bar:
        for pixels in batches(images.source, preprocess, images.indices, evaluate.BATCH):
            expected = reference.outputs(pixels)
            for name, collected in answers.items():
                session = reference if name == REFERENCE else running[name]
                outputs = expected if name == REFERENCE else session.outputs(pixels)
                collected.append(evaluate.finite(answer(outputs), f"{name}: {session.executed_by}"))
                comparisons[name].add(expected, outputs)
            bar.advance(len(pixels))
    runs = {
        name: _Run(answers=np.concatenate(parts), outputs=comparisons[name].result().tensors)
        for name, parts in answers.items()
    }
    return runs | ({twin: runs[REFERENCE]} if twin else {})


def _equal_outputs(one: Mapping[str, Logits], other: Mapping[str, Logits]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def _candidates(target: Target, artifact: Artifact) -> dict[str, _Candidate]:
    """The artifact under the target's name, presets under `target preset`."""
    files = {target.name: artifact.file} | {f"{target.name} {name}": file for name, file in artifact.presets.items()}
    return {name: _candidate(target, replace(artifact, file=file)) for name, file in files.items()}


def _candidate(target: Target, artifact: Artifact) -> _Candidate:
    try:
        session: Measurement[OutputSession] = target.open(artifact)
    except TargetUnavailable as error:
        session = NotMeasured(reason=str(error))
    return _Candidate(target=target, artifact=artifact, session=session)


def _file_result(
    candidate: _Candidate, images: Images, run: _Run | None, reference: Logits, latency: Latency | None, source: Source
) -> FileResult:
    coverage = candidate.target.inspect(candidate.artifact).coverage
    require_int8(candidate.artifact, coverage, source.float_tensors)
    session, classes = candidate.session, NO_CLASSES if source.card.features else None
    if isinstance(session, NotMeasured) or run is None:
        assert isinstance(session, NotMeasured)
        return FileResult(
            file=candidate.artifact.file,
            executed_by=session,
            outputs=session,
            accuracy=session,
            agreement_with_reference=session,
            logit_sqnr_db=session,
            coverage=coverage,
            latency=session,
        )
    sqnr = evaluate.logit_sqnr_db(run.answers, reference)
    return FileResult(
        file=candidate.artifact.file,
        executed_by=session.executed_by,
        outputs=run.outputs,
        accuracy=_of_classes(source.card, images) or evaluate.accuracy(run.answers, reference, _labels(images)),
        agreement_with_reference=classes or evaluate.agreement(run.answers, reference),
        logit_sqnr_db=classes or (sqnr if math.isfinite(sqnr) else IDENTICAL),
        coverage=coverage,
        latency=latency or NotMeasured(reason=f"the speed of the {session.executed_by} is not a device's"),
    )


def read_back(target: Target, artifact: Artifact, card: ModelCard, table: QuantTable | None) -> Measurement[ReadBack]:
    """Compare what the file stores with the card and the table; the error names the first tensors that differ."""
    path = artifact.file.path
    inspection = target.inspect(artifact)
    if card_from(inspection.metadata) != card:
        raise ConversionError(f"{path.name} does not say the labels and preprocessing it was given; report this")
    if table is None or artifact.precision != "int8":
        return NotMeasured(reason="only INT8 artifacts hold the quantization table")
    stored = inspection.qparams
    differing = differences(table, stored)
    if differing:
        raise ConversionError(
            f"{path.name} does not hold the quantization table: {len(differing)} tensors differ, first "
            f"{', '.join(differing[:3])}; report this with the checkpoint"
        )
    return ReadBack(
        tensors=sum(entry.params is not None and name in stored for name, entry in table.tensors.items()),
        rounded_to_float16=len(rounded_to_float16(table, stored)),
    )


def differences(table: QuantTable, stored: Mapping[str, QuantParams]) -> list[str]:
    """Tensors whose stored parameters are missing or not the table's, compared as float32, or that it leaves in float.

    A scale rounded to float16 is the table's (see `rounded_to_float16`). Biases count where the format stores them as
    integers; Core ML takes the float values those stand for.
    """
    integer_biases = any(params.bits == BIAS_BITS for params in stored.values())
    unwanted = [name for name in table.float_tensors if name in stored]
    return unwanted + [
        name
        for name, entry in table.tensors.items()
        if entry.params is not None
        and (entry.params.bits != BIAS_BITS or integer_biases)
        and (name not in stored or not (_equal(entry.params, stored[name]) or _rounded(entry.params, stored[name])))
    ]


def rounded_to_float16(table: QuantTable, stored: Mapping[str, QuantParams]) -> list[str]:
    """Tensors whose scale the file holds as the nearest float16, as Core ML's compute type asks for: none where the
    table's scales are float16 numbers, as ours are."""
    return [
        name
        for name, entry in table.tensors.items()
        if entry.params is not None and name in stored and _rounded(entry.params, stored[name])
    ]


def _rounded(wanted: QuantParams, stored: QuantParams) -> bool:
    if wanted.bits != 8 or _equal(wanted, stored):
        return False
    with np.errstate(over="ignore"):
        half = np.array(wanted.scale).astype(np.float16)
    return _equal(replace(wanted, scale=tuple(half.astype(np.float64).tolist())), stored)


def _equal(one: QuantParams, other: QuantParams) -> bool:
    return (
        one.zero_point == other.zero_point
        and one.bits == other.bits
        and np.array_equal(np.array(one.scale, np.float32), np.array(other.scale, np.float32))
    )
