"""Proof of finished artifacts: read back, executed on the evaluation images, timed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rexnet_export.pipeline.artifact.metadata import card_from
from rexnet_export.pipeline.artifact.target import Session, Target, require_int8
from rexnet_export.pipeline.core.errors import ConversionError, TargetUnavailable
from rexnet_export.pipeline.core.progress import Progress
from rexnet_export.pipeline.core.records import Artifact, Measurement, ModelCard, NotMeasured, Preprocess, StoredFile
from rexnet_export.pipeline.data.selection import Images
from rexnet_export.pipeline.data.sources import batches, images_sha256
from rexnet_export.pipeline.proof import evaluate
from rexnet_export.pipeline.proof.evaluate import Logits
from rexnet_export.pipeline.proof.flips import Flips, flips
from rexnet_export.pipeline.proof.latency import Latency, measure
from rexnet_export.pipeline.proof.onnx_stages import UNLABELLED, StageName, last_float, open_stages, stage_results
from rexnet_export.pipeline.proof.results import FileResult, ReadBack, Reference, StageResult, TargetResult
from rexnet_export.pipeline.proof.tensor_noise import Layers, tensor_noise
from rexnet_export.quantization.table.params import QuantParams
from rexnet_export.quantization.table.table import QuantTable

REFERENCE = "reference"
BIAS_BITS = 32
IDENTICAL = NotMeasured(reason="the logits equal the reference's, so there is no noise to measure")


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What running everything on the evaluation images gave."""

    reference: Reference
    stages: Mapping[str, StageResult]
    targets: Mapping[str, TargetResult]
    layers: Layers
    flips: Flips
    logits: Mapping[str, Logits]


@dataclass(frozen=True, kw_only=True)
class _Candidate:
    """One file to prove: a target's artifact, or a preset of it."""

    target: Target
    artifact: Artifact
    session: Measurement[Session]


def prove(
    artifacts: Sequence[tuple[Target, Artifact]],
    graphs: Mapping[StageName, StoredFile],
    reference: Session,
    images: Images,
    card: ModelCard,
    table: QuantTable | None,
    progress: Progress,
) -> Proof:
    """Read every file back, and execute those that can be executed here beside the reference on the same images.

    `graphs` are the ONNX graphs the artifacts were made from; they run too.
    """
    candidates = {
        name: candidate for target, artifact in artifacts for name, candidate in _candidates(target, artifact).items()
    }
    found = {name: read_back(c.target, c.artifact, card, table) for name, c in candidates.items()}
    sessions = {name: c.session for name, c in candidates.items() if not isinstance(c.session, NotMeasured)}
    logits = _run(reference, open_stages(graphs) | sessions, images, card.preprocess, progress)
    first = next(batches(images.source, card.preprocess, images.indices[:1], 1))
    timed = {name: session for name, session in sessions.items() if session.timed}
    latencies = measure(timed, first, progress) if timed else {}
    traced = {target.name: sessions[target.name] for target, _ in artifacts if target.name in sessions}
    left = table.float_tensors if table is not None else ()
    results = {
        name: _file_result(candidate, images, logits.get(name), logits[REFERENCE], latencies.get(name), left)
        for name, candidate in candidates.items()
    }
    return Proof(
        reference=Reference(
            executed_by=reference.executed_by,
            images=images.source.name,
            images_sha256=images_sha256(images.source, images.indices),
            n=len(images.indices),
            top1=UNLABELLED if images.labels is None else evaluate.top1(logits[REFERENCE], images.labels),
        ),
        stages=stage_results(graphs, logits, logits[REFERENCE], images),
        targets={
            target.name: TargetResult(
                precision=artifact.precision,
                artifact=results[target.name],
                presets={preset: results[f"{target.name} {preset}"] for preset in artifact.presets},
                qparams_read=found[target.name],
            )
            for target, artifact in artifacts
        },
        layers=tensor_noise(last_float(graphs).path, traced, images, card.preprocess),
        flips=flips(
            logits[REFERENCE],
            {name: logits[name] for name in sessions},
            [images.source.ids[index] for index in images.indices],
            images.labels,
            card.labels,
        ),
        logits=logits,
    )


def _run(
    reference: Session, sessions: Mapping[str, Session], images: Images, preprocess: Preprocess, progress: Progress
) -> dict[str, Logits]:
    """Logits of the reference and of every session.

    A file that gives the reference's own logits, digit for digit, on the first images stands for it on the others:
    a saved float network in the same runtime need not be run twice.
    """
    few = next(batches(images.source, preprocess, images.indices[: evaluate.BATCH], evaluate.BATCH))
    expected = reference.run(few)
    same = [name for name, s in sessions.items() if s.executed_by == reference.executed_by]
    twin = next((name for name in same if np.array_equal(sessions[name].run(few), expected)), None)
    running = dict(sessions) if twin else {REFERENCE: reference, **sessions}
    logits = evaluate.run_sessions(running, images.source, preprocess, images.indices, progress)
    return {REFERENCE: logits[twin or REFERENCE], **logits}


def _candidates(target: Target, artifact: Artifact) -> dict[str, _Candidate]:
    """The artifact under the target's name, presets under `target preset`."""
    files = {target.name: artifact.file} | {f"{target.name} {name}": file for name, file in artifact.presets.items()}
    return {name: _candidate(target, replace(artifact, file=file)) for name, file in files.items()}


def _candidate(target: Target, artifact: Artifact) -> _Candidate:
    try:
        session: Measurement[Session] = target.open(artifact)
    except TargetUnavailable as error:
        session = NotMeasured(reason=str(error))
    return _Candidate(target=target, artifact=artifact, session=session)


def _file_result(
    candidate: _Candidate,
    images: Images,
    logits: Logits | None,
    reference: Logits,
    latency: Latency | None,
    float_tensors: tuple[str, ...],
) -> FileResult:
    coverage = candidate.target.coverage(candidate.artifact)
    require_int8(candidate.artifact, coverage, float_tensors)
    if isinstance(candidate.session, NotMeasured) or logits is None:
        assert isinstance(candidate.session, NotMeasured)
        skipped = candidate.session
        return FileResult(
            file=candidate.artifact.file,
            executed_by=skipped,
            accuracy=skipped,
            agreement_with_reference=skipped,
            logit_sqnr_db=skipped,
            coverage=coverage,
            latency=skipped,
        )
    sqnr = evaluate.logit_sqnr_db(logits, reference)
    return FileResult(
        file=candidate.artifact.file,
        executed_by=candidate.session.executed_by,
        accuracy=UNLABELLED if images.labels is None else evaluate.accuracy(logits, reference, images.labels),
        agreement_with_reference=evaluate.agreement(logits, reference),
        logit_sqnr_db=sqnr if math.isfinite(sqnr) else IDENTICAL,
        coverage=coverage,
        latency=latency or NotMeasured(reason=f"the speed of the {candidate.session.executed_by} is not a device's"),
    )


def read_back(target: Target, artifact: Artifact, card: ModelCard, table: QuantTable | None) -> Measurement[ReadBack]:
    """Compare what the file stores with the card and the table; the error names the first tensors that differ."""
    path = artifact.file.path
    if card_from(target.read_metadata(artifact)) != card:
        raise ConversionError(f"{path.name} does not say the labels and preprocessing it was given; report this")
    if table is None or artifact.precision != "int8":
        return NotMeasured(reason="only INT8 artifacts hold the quantization table")
    stored = target.read_qparams(artifact)
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
