"""Proof of a backbone's finished artifacts: read back, executed beside torch, each output compared, timed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rexnet_export.pipeline.artifact.target import FeatureSession, Source, Target, require_int8
from rexnet_export.pipeline.core.errors import TargetUnavailable
from rexnet_export.pipeline.core.progress import Progress
from rexnet_export.pipeline.core.records import Artifact, Measurement, NotMeasured, Preprocess
from rexnet_export.pipeline.data.selection import Images
from rexnet_export.pipeline.data.sources import batches
from rexnet_export.pipeline.export.backbone_report import BackboneFile, BackboneResult
from rexnet_export.pipeline.model.torch_session import TorchSession
from rexnet_export.pipeline.proof.compare import TensorComparison
from rexnet_export.pipeline.proof.latency import Latency, measure
from rexnet_export.pipeline.proof.prove import read_back

BATCH = 16


def pixel_batches(images: Images, preprocess: Preprocess, count: int | None = None) -> Iterator[NDArray[np.uint8]]:
    """The images, or the first `count` of them, uint8 [n, S, S, 3]."""
    return batches(images.source, preprocess, images.indices[:count], BATCH)


@dataclass(frozen=True, kw_only=True)
class _Candidate:
    """One file to prove."""

    target: Target
    artifact: Artifact
    session: Measurement[FeatureSession]


def proven(
    artifacts: Sequence[tuple[Target, Artifact]],
    reference: TorchSession,
    images: Images,
    source: Source,
    progress: Progress,
) -> dict[str, BackboneResult]:
    """Read every file back, and execute those that can be executed here beside the reference on the same images."""
    files = {
        (target.name, preset): _candidate(target, replace(artifact, file=file))
        for target, artifact in artifacts
        for preset, file in {"": artifact.file, **artifact.presets}.items()
    }
    read = {key: read_back(c.target, c.artifact, source.card, source.table) for key, c in files.items()}
    results = _measured(files, reference, images, source, progress)
    return {
        target.name: BackboneResult(
            precision=artifact.precision,
            artifact=results[target.name, ""],
            presets={preset: results[target.name, preset] for preset in artifact.presets},
            qparams_read=read[target.name, ""],
        )
        for target, artifact in artifacts
    }


def _candidate(target: Target, artifact: Artifact) -> _Candidate:
    try:
        session = target.open(artifact)
    except TargetUnavailable as error:
        return _Candidate(target=target, artifact=artifact, session=NotMeasured(reason=str(error)))
    assert isinstance(session, FeatureSession), "every target that is asked for a backbone has its outputs"
    return _Candidate(target=target, artifact=artifact, session=session)


def _measured(
    files: Mapping[tuple[str, str], _Candidate],
    reference: TorchSession,
    images: Images,
    source: Source,
    progress: Progress,
) -> dict[tuple[str, str], BackboneFile]:
    preprocess = source.card.preprocess
    sessions = {key: c.session for key, c in files.items() if not isinstance(c.session, NotMeasured)}
    comparisons = {key: TensorComparison({}) for key in sessions}
    with progress.stage(f"running {len(sessions)} networks", len(images.indices), "images") as bar:
        for pixels in pixel_batches(images, preprocess):
            expected = reference.features(pixels)
            for key, session in sessions.items():
                comparisons[key].add(expected, session.outputs(pixels))
            bar.advance(len(pixels))
    first = next(pixel_batches(images, preprocess, 1))
    timed = {" ".join(key): _WithoutMeans(session) for key, session in sessions.items() if session.timed}
    latencies = measure(timed, first, progress) if timed else {}
    return {
        key: _file(candidate, source.float_tensors, comparisons.get(key), latencies.get(" ".join(key)))
        for key, candidate in files.items()
    }


class _WithoutMeans:
    """A session that is timed for its outputs alone; their means are the self-test's."""

    timed = True

    def __init__(self, session: FeatureSession) -> None:
        self._session = session
        self.executed_by = session.executed_by

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The coarsest output."""
        return list(self._session.outputs(images).values())[-1]

    def trace(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """The session's own."""
        return self._session.trace(images)


def _file(
    candidate: _Candidate,
    float_tensors: tuple[str, ...],
    comparison: TensorComparison | None,
    latency: Latency | None,
) -> BackboneFile:
    coverage = candidate.target.coverage(candidate.artifact)
    require_int8(candidate.artifact, coverage, float_tensors)
    session = candidate.session
    if isinstance(session, NotMeasured) or comparison is None:
        assert isinstance(session, NotMeasured)
        return BackboneFile(
            file=candidate.artifact.file, executed_by=session, outputs=session, coverage=coverage, latency=session
        )
    return BackboneFile(
        file=candidate.artifact.file,
        executed_by=session.executed_by,
        outputs=comparison.result().tensors,
        coverage=coverage,
        latency=latency or NotMeasured(reason=f"the speed of the {session.executed_by} is not a device's"),
    )
