"""Proof of finished artifacts: read back, executed on the evaluation images, timed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rexnet_export.pipeline.accuracy import evaluate
from rexnet_export.pipeline.accuracy.class_accuracy import ClassAccuracy, class_accuracies
from rexnet_export.pipeline.accuracy.evaluate import Logits
from rexnet_export.pipeline.accuracy.flips import Flips, flips
from rexnet_export.pipeline.accuracy.image_noise import ImageNoise, image_noise
from rexnet_export.pipeline.accuracy.places import Places
from rexnet_export.pipeline.artifact.target import OutputSession, Source, Target, require_int8
from rexnet_export.pipeline.core.errors import TargetUnavailable
from rexnet_export.pipeline.core.outputs import LOG_PROBABILITIES, log_probabilities
from rexnet_export.pipeline.core.progress import Progress
from rexnet_export.pipeline.core.records import Artifact, Coverage, Measurement, ModelCard, NotMeasured, StoredFile
from rexnet_export.pipeline.data.selection import Images
from rexnet_export.pipeline.data.sources import batches, images_sha256
from rexnet_export.pipeline.machine.heap import give_back
from rexnet_export.pipeline.proof.float_forms import latencies
from rexnet_export.pipeline.proof.latency import Latency
from rexnet_export.pipeline.proof.looks import Looks, run_looks
from rexnet_export.pipeline.proof.network import Network, of_file
from rexnet_export.pipeline.proof.onnx_stages import UNLABELLED, StageName, stage_results, stages
from rexnet_export.pipeline.proof.pieces import Workers, in_pieces
from rexnet_export.pipeline.proof.read_back import read_back
from rexnet_export.pipeline.proof.results import FileResult, ReadBack, Reference, StageResult, TargetResult
from rexnet_export.pipeline.proof.run_networks import REFERENCE, Run, RunImages, one_by_one, run_here, run_networks
from rexnet_export.pipeline.proof.tensor_noise import Layers, tensor_noise

NO_CLASSES = NotMeasured(reason="a network without its head has no classes; its outputs are compared one by one")
NUMBERS = NotMeasured(reason="the network gives numbers, not classes")
IDENTICAL = NotMeasured(reason="the logits equal the reference's, so there is no noise to measure")


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What running everything on the evaluation images gave.

    `logits` [n, classes] are of all images, or of those at `places` [n] where the network has some.
    """

    reference: Reference
    stages: Mapping[str, StageResult]
    targets: Mapping[str, TargetResult]
    layers: Layers
    flips: Measurement[Flips]
    classes: Measurement[tuple[ClassAccuracy, ...]]
    image_noise: Mapping[str, Measurement[ImageNoise]]
    logits: Mapping[str, Logits]
    places: Mapping[str, Places]


@dataclass(frozen=True, kw_only=True)
class Manner:
    """How files are proven: `untimed` is why no durations are measured, where they are not; `workers` may run pieces of
    many images; `looks` are what emulated files and the graphs between are judged by, where not by all images at once.
    """

    untimed: NotMeasured | None = None
    workers: Workers | None = None
    looks: Looks | None = None


@dataclass(frozen=True, kw_only=True)
class _Candidate:
    """One file to prove: a target's artifact, or a preset of it."""

    target: Target
    artifact: Artifact
    network: Measurement[Network]


@dataclass(frozen=True, kw_only=True)
class _Stored:
    """What a file holds: the table, as far as it is compared, and its arithmetic."""

    qparams_read: Measurement[ReadBack]
    coverage: Coverage


def prove(
    artifacts: Sequence[tuple[Target, Artifact]],
    graphs: Mapping[StageName, StoredFile],
    reference: OutputSession,
    images: Images,
    source: Source,
    progress: Progress,
    manner: Manner,
) -> Proof:
    """Read every file back, and execute those that can be executed here beside the reference on the same images.

    `graphs` are the ONNX graphs the artifacts were made from; they run too. They and emulated files are witnesses: no
    device runs them as they are run here. What speaks of classes is not measured of a network without a head.
    """
    untimed, card = manner.untimed, source.card
    candidates, stored = _read(artifacts, source, progress)
    networks = {name: c.network for name, c in candidates.items() if not isinstance(c.network, NotMeasured)}
    opened = {name: (c.target, c.artifact) for name, c in candidates.items() if name in networks}

    def spread(here: RunImages) -> RunImages:
        return in_pieces(manner.workers, graphs, opened, here) if manner.workers else here

    witnesses = stages(graphs) | {name: network for name, network in networks.items() if network.emulated}
    asked = {name: network for name, network in networks.items() if name not in witnesses}
    if card.heads or card.features:  # the reference's other outputs are not kept, so all are compared as it runs
        witnesses, asked = {}, witnesses | asked
    give_back()  # what reading back took
    runs = run_networks(reference, asked, images, card.preprocess, progress, spread(run_here))
    answers = runs[REFERENCE].answers
    give_back()
    runs |= run_looks(witnesses, answers, images, card.preprocess, progress, spread(one_by_one), manner.looks)
    give_back()
    first = next(batches(images.source, card.preprocess, images.indices[:1], 1))
    timed = {name: network for name, network in networks.items() if untimed is None and network.timed}
    own_latencies, float_latencies = latencies(artifacts, timed, source, first, progress)
    traced = {target.name: networks[target.name] for target, _ in artifacts if target.name in networks}
    results = {
        name: _file_result(
            candidate,
            images,
            runs.get(name),
            answers,
            (own_latencies.get(name) or untimed, float_latencies.get(name) or untimed),
            stored[name].coverage,
            source,
        )
        for name, candidate in candidates.items()
    }
    logits = {} if card.features else {name: run.answers for name, run in runs.items()}
    places = {name: run.places for name, run in runs.items() if run.places is not None}
    beside = {name: _beside(runs[name], answers) for name in networks}
    ids = [images.source.ids[index] for index in images.indices]
    return Proof(
        reference=Reference(
            executed_by=reference.executed_by,
            images=images.source.name,
            images_sha256=images_sha256(images.source, images.indices),
            n=len(images.indices),
            top1=_of_classes(card, images) or evaluate.top1(logits[REFERENCE], _labels(images)),
        ),
        stages=stage_results(graphs, runs, images),
        targets={
            target.name: TargetResult(
                precision=artifact.precision,
                artifact=results[target.name],
                presets={preset: results[f"{target.name} {preset}"] for preset in artifact.presets},
                qparams_read=stored[target.name].qparams_read,
            )
            for target, artifact in artifacts
        },
        layers=tensor_noise(source.float_onnx.path, traced, images, card.preprocess, progress),
        flips=_no_classes(card)
        or flips(logits[REFERENCE], {name: logits[name] for name in networks}, ids, images.labels, card.labels, places),
        classes=_of_classes(card, images) or _by_class(logits, beside, places, images, card),
        image_noise={} if card.features else {name: _noise(runs[name], beside[name], ids, card) for name in networks},
        logits=logits,
        places=places,
    )


def _no_classes(card: ModelCard) -> NotMeasured | None:
    """Why nothing is said of classes, if nothing is."""
    if card.features:
        return NO_CLASSES
    return NUMBERS if card.numbers else None


def _of_classes(card: ModelCard, images: Images) -> NotMeasured | None:
    """Why top-1 is not measured, if it is not."""
    return _no_classes(card) or (UNLABELLED if images.labels is None else None)


def _labels(images: Images) -> NDArray[np.int64]:
    assert images.labels is not None
    return images.labels


def _by_class(
    logits: Mapping[str, Logits],
    beside: Mapping[str, Logits],
    places: Mapping[str, Places],
    images: Images,
    card: ModelCard,
) -> tuple[ClassAccuracy, ...]:
    files = {name: logits[name] for name in beside}
    return class_accuracies(logits[REFERENCE], files, beside, _labels(images), card.labels, places)


def _noise(run: Run, beside: Logits, ids: Sequence[str], card: ModelCard) -> Measurement[ImageNoise]:
    asked = ids if run.places is None else [ids[place] for place in run.places]
    return _no_classes(card) or image_noise(beside, run.answers, asked)


def _beside(run: Run, reference: Logits) -> Logits:
    """The reference's answers to the same images as the file gives them: by their logarithm where it has probabilities
    alone."""
    answers = run.at(reference)
    return log_probabilities(answers) if any(o.name == LOG_PROBABILITIES for o in run.outputs) else answers


def _read(
    artifacts: Sequence[tuple[Target, Artifact]], source: Source, progress: Progress
) -> tuple[dict[str, _Candidate], dict[str, _Stored]]:
    """Every file opened, and what it holds."""
    count = sum(1 + len(artifact.presets) for _, artifact in artifacts)
    with progress.stage("reading files back", count, "files") as bar:
        candidates = {name: c for target, artifact in artifacts for name, c in _candidates(target, artifact).items()}
        stored = {}
        for name, candidate in candidates.items():
            stored[name] = _stored(candidate, source)
            bar.advance(1, name)
    return candidates, stored


def _candidates(target: Target, artifact: Artifact) -> dict[str, _Candidate]:
    """The artifact under the target's name, presets under `target preset`."""
    files = {target.name: artifact.file} | {f"{target.name} {name}": file for name, file in artifact.presets.items()}
    return {name: _candidate(target, replace(artifact, file=file)) for name, file in files.items()}


def _candidate(target: Target, artifact: Artifact) -> _Candidate:
    try:
        network: Measurement[Network] = of_file(target, artifact)
    except TargetUnavailable as error:
        network = NotMeasured(reason=str(error))
    return _Candidate(target=target, artifact=artifact, network=network)


def _stored(candidate: _Candidate, source: Source) -> _Stored:
    """Read a file back, once; what was read is not kept."""
    inspection = candidate.target.inspect(candidate.artifact)
    read = read_back(candidate.artifact, inspection, source.card, source.table)
    require_int8(candidate.artifact, inspection.coverage, source.float_tensors)
    return _Stored(qparams_read=read, coverage=inspection.coverage)


def _file_result(
    candidate: _Candidate,
    images: Images,
    run: Run | None,
    reference: Logits,
    latency: tuple[Measurement[Latency] | None, Measurement[Latency] | None],
    coverage: Coverage,
    source: Source,
) -> FileResult:
    network = candidate.network
    if isinstance(network, NotMeasured) or run is None:
        assert isinstance(network, NotMeasured)
        return FileResult(
            file=candidate.artifact.file,
            executed_by=network,
            outputs=network,
            accuracy=network,
            agreement_with_reference=network,
            logit_sqnr_db=network,
            coverage=coverage,
            latency=network,
            float_latency=network,
        )
    reference = _beside(run, reference)
    sqnr = evaluate.logit_sqnr_db(run.answers, reference)
    no_device = NotMeasured(reason=f"run by {network.executed_by}, whose speed is not a device's")
    own, beside = latency
    return FileResult(
        file=candidate.artifact.file,
        executed_by=network.executed_by,
        outputs=run.outputs,
        accuracy=_of_classes(source.card, images)
        or evaluate.accuracy(run.answers, reference, run.at(_labels(images)), run.looks),
        agreement_with_reference=_no_classes(source.card) or evaluate.agreement(run.answers, reference),
        logit_sqnr_db=NO_CLASSES if source.card.features else sqnr if math.isfinite(sqnr) else IDENTICAL,
        coverage=coverage,
        latency=own or no_device,
        float_latency=beside or no_device,
    )
