"""Proving finished files again: each by itself, then all of them against each other on the same images."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

from rexnet_export.pipeline.accuracy import compare
from rexnet_export.pipeline.accuracy.compare import LogitComparison, Loss, TraceComparison
from rexnet_export.pipeline.accuracy.evaluate import run_sessions
from rexnet_export.pipeline.artifact.export_folder import Release, find_release, stored
from rexnet_export.pipeline.artifact.metadata import card_from
from rexnet_export.pipeline.artifact.self_test import SelfTest
from rexnet_export.pipeline.artifact.signature import require_signed
from rexnet_export.pipeline.artifact.target import Session
from rexnet_export.pipeline.core.errors import ConversionError, ExportError, UsageError
from rexnet_export.pipeline.core.files import MANIFEST_FILE
from rexnet_export.pipeline.core.outputs import log_probabilities
from rexnet_export.pipeline.core.progress import Progress, counted
from rexnet_export.pipeline.core.records import RGB, Measurement, ModelCard, NotMeasured, Text
from rexnet_export.pipeline.data.selection import Images, labelled_images
from rexnet_export.pipeline.data.sources import ImageSource, batches, bundled, match_labels, open_source
from rexnet_export.pipeline.graph.float_tracer import FloatTracer, float_trace
from rexnet_export.pipeline.proof.careful_session import Careful
from rexnet_export.pipeline.proof.examine import File, Finding, examine
from rexnet_export.quantization.table.params import QuantParams

FLOAT = "float network"
EXPECTED = "--expect"
SOME_IMAGES = 500  # enough to see files part, which `report.json` has measured on all: minutes for seconds
SHA256 = re.compile("[0-9A-Fa-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to prove, and on which images: as many of `eval_data` as `eval_images` says, else the first `SOME_IMAGES`.

    `eval_labels` is the list of labels of images that lie in one folder.
    `expect` is the SHA-256 that the one path must have: a file's own, a package's, or that of a folder's manifest;
    `trusted` the public key that must have signed the one folder.
    """

    paths: tuple[Path, ...]
    eval_data: Path | None = None
    eval_labels: Path | None = None
    eval_images: int | None = None
    trace_images: int = 4
    seed: int = 0
    expect: str | None = None
    trusted: Path | None = None

    def __post_init__(self) -> None:
        """Refuse numbers no run could honour."""
        for flag, count in (("eval-images", self.eval_images), ("trace-images", self.trace_images)):
            if count is not None and count < 1:
                raise UsageError(f"--{flag} {count}: must be at least 1")
        if self.eval_labels is not None and self.eval_data is None:
            raise UsageError(f"--eval-labels {self.eval_labels}: name the images' folder with --eval-data")
        if self.expect is not None and not SHA256.fullmatch(self.expect):
            raise UsageError(f"--expect {self.expect!a}: a SHA-256 is 64 hexadecimal digits")
        if self.expect is not None and len(self.paths) != 1:
            raise UsageError(f"--expect is the digest of one file or folder, and {len(self.paths)} are named")
        if self.trusted is not None and (len(self.paths) != 1 or not (self.paths[0] / MANIFEST_FILE).is_file()):
            raise UsageError("--trusted is the key of one folder that rexnet-export wrote; name that alone")


@dataclass(frozen=True, kw_only=True)
class TensorFinding:
    """Two files, or the float network and a file, tensor by tensor.

    `first` is the first tensor in which two INT8 files part; `loss` where quantization costs most against float.
    """

    names: tuple[Text, Text]
    traces: TraceComparison
    first: Measurement[Text]
    loss: Measurement[Loss]


@dataclass(frozen=True, kw_only=True)
class Verification:
    """All that was found; the files are proven where every one is vouched for, passed its self-test and has no
    problem."""

    findings: tuple[Finding, ...]
    images: Measurement[str]
    logits: Measurement[LogitComparison]
    tensors: Measurement[tuple[TensorFinding, ...]]

    @property
    def proven(self) -> bool:
        """Whether every file is one that something else vouches for, as it was written, executed, without a problem."""
        return not self.problems and all(
            isinstance(f.self_test, SelfTest) and not isinstance(f.vouched_by, NotMeasured) and not f.compressed
            for f in self.findings
        )

    @property
    def problems(self) -> tuple[str, ...]:
        """Every problem, with its file's name."""
        return tuple(f"{finding.name}: {problem}" for finding in self.findings for problem in finding.problems)


def verify(
    request: Request, open_file: Callable[[Path], File], suffixes: tuple[str, ...], progress: Progress
) -> Verification:
    """Examine every file; run those without a problem on the same images and compare them pair by pair.

    `open_file` opens one where its crash harms nobody (`targets.isolation.isolated_file`). Files of different
    checkpoints are refused.
    """
    signed_by = require_signed(request.paths[0], request.trusted) if request.trusted else None
    release = find_release(request.paths, suffixes)
    expected = _require_expected(request)
    names = _names(release.artifacts)
    with ExitStack() as opened:
        files = {names[path]: opened.enter_context(open_file(path)) for path in release.artifacts}
        _require_images(request, files.values())
        findings = []
        with progress.stage("examining", len(files), "files") as bar:
            for name, file in files.items():
                finding = examine(file, name, stored(file.path), release)
                findings.append(_vouched(finding, signed_by, expected=file.path == expected))
                bar.advance(1, name)
        _require_one_network([finding for finding in findings if not finding.problems])
        sound = [f for f in findings if not f.problems and not isinstance(f.executed_by, NotMeasured)]
        if not sound:
            nothing = NotMeasured(reason="no file is fit to be run")
            return Verification(findings=tuple(findings), images=nothing, logits=nothing, tensors=nothing)
        return _compared(request, tuple(findings), {f.name: (f, files[f.name]) for f in sound}, release, progress)


def _vouched(finding: Finding, signed_by: str | None, *, expected: bool) -> Finding:
    """The strongest that vouches for a file."""
    if signed_by is not None:
        return replace(finding, vouched_by=f"signature of {signed_by[:16]}")
    return replace(finding, vouched_by=EXPECTED) if expected else finding


def _require_expected(request: Request) -> Path | None:
    """The path that `expect` vouches for, where it is given; `ConversionError` unless its digest is that."""
    if request.expect is None:
        return None
    (path,) = request.paths
    record = path / MANIFEST_FILE
    place = record if record.is_file() else path
    digest = stored(place).sha256
    if digest != request.expect.lower():
        raise ConversionError(f"{place} is not what --expect names: its SHA-256 is {digest}")
    return path


def _compared(
    request: Request,
    findings: tuple[Finding, ...],
    sound: Mapping[str, tuple[Finding, File]],
    release: Release,
    progress: Progress,
) -> Verification:
    card = next(iter(sound.values()))[0].card
    assert not isinstance(card, NotMeasured)
    images = _images(request, card, progress)
    if isinstance(images, NotMeasured):
        return Verification(findings=findings, images=images, logits=images, tensors=images)
    sessions = {name: Careful(file, card.answers) for name, (_, file) in sound.items()}
    logits = run_sessions(sessions, images.source, card.preprocess, images.indices, progress)
    failed = {name: session.failure for name, session in sessions.items() if session.failure}
    findings = tuple(_with_problem(finding, failed.get(finding.name)) for finding in findings)
    sound = {name: pair for name, pair in sound.items() if name not in failed}
    steps = [finding.step for finding, _ in sound.values() if finding.step is not None]
    step: Measurement[float] = max(steps) if steps else compare.NO_GRID
    left = {name: logits[name] for name in sound}
    if any(sessions[name].gives_logarithms for name in left):
        step, left = compare.LOGARITHMS, {name: log_probabilities(values) for name, values in left.items()}
    nothing = NotMeasured(reason="every file stopped while it was run")
    return Verification(
        findings=findings,
        images=images.source.name,
        logits=compare.compare_logits(left, images.labels, step) if left else nothing,
        tensors=_tensors(request, card, sound, release, images, progress),
    )


def _with_problem(finding: Finding, problem: str | None) -> Finding:
    return replace(finding, problems=(*finding.problems, problem)) if problem else finding


def _tensors(
    request: Request,
    card: ModelCard,
    sound: Mapping[str, tuple[Finding, File]],
    release: Release,
    images: Images,
    progress: Progress,
) -> Measurement[tuple[TensorFinding, ...]]:
    """Every INT8 file against the float network where its graph lies beside it, and against the other INT8 files."""
    integer = {name: pair for name, pair in sound.items() if pair[0].qparams}
    if not integer:
        return NotMeasured(reason="only INT8 files are compared tensor by tensor")
    reference = _float_network([finding for finding, _ in integer.values()], release)
    sessions: dict[str, Session] = {name: file for name, (_, file) in integer.items()}
    pairs = list(combinations(sessions, 2))
    if reference is not None:
        pairs += [(FLOAT, name) for name in sessions]
        sessions[FLOAT] = reference
    if not pairs:
        return NotMeasured(reason="one INT8 file alone, without its float graph beside it, has nothing to compare with")
    grids = _common_grids([finding for finding, _ in integer.values()])
    chosen = images.indices[: request.trace_images]
    with progress.stage("comparing tensors", len(chosen), "images") as bar:
        pixels = counted(batches(images.source, card.preprocess, chosen, 1), bar)
        found = compare.compare_traces(sessions, pairs, pixels, grids)
    inputs = reference.inputs if reference else {}
    return tuple(_tensor_finding(pair, traces, inputs) for pair, traces in found.items())


def _common_grids(findings: Sequence[Finding]) -> dict[str, QuantParams]:
    """Parameters of activations that all the files agree on that have them; files of other tables are compared as real
    numbers."""
    known = {name: params for finding in findings for name, params in finding.qparams.items()}
    return {
        name: params
        for name, params in known.items()
        if params.axis is None and all(finding.qparams.get(name, params) == params for finding in findings)
    }


def _tensor_finding(
    names: tuple[str, str], traces: TraceComparison, inputs: Mapping[str, Sequence[str]]
) -> TensorFinding:
    if FLOAT in names:
        first: Measurement[str] = NotMeasured(reason="a quantized tensor always differs from the float one")
        return TensorFinding(
            names=names, traces=traces, first=first, loss=compare.where_loss_starts(traces.tensors, inputs)
        )
    apart = compare.first_difference(traces.tensors)
    return TensorFinding(
        names=names,
        traces=traces,
        first=apart.name if apart else NotMeasured(reason="no tensor differs"),
        loss=NotMeasured(reason="neither is the float network"),
    )


def _float_network(findings: Sequence[Finding], release: Release) -> FloatTracer | None:
    """The float graph that the files were made from, where it lies beside them."""
    wanted = {finding.float_onnx_sha256 for finding in findings}
    for graph in release.float_graphs:
        if {graph.sha256} == wanted:
            return float_trace(graph.path)
    return None


def _require_images(request: Request, files: Iterable[File]) -> None:
    """Refuse images that do not serve the files before any of them is run; what a file cannot say is told later."""
    for file in files if request.eval_data is not None else ():
        with suppress(ExportError):
            card = card_from(file.inspect().metadata)
            break
    else:
        return
    if card.labels:
        match_labels(_given(request, card), card.labels)


def _given(request: Request, card: ModelCard) -> ImageSource:
    assert request.eval_data is not None
    return open_source(
        request.eval_data,
        labelled=True,
        image_labels=request.eval_labels,
        channels=card.preprocess.channels,
    )


def _images(request: Request, card: ModelCard, progress: Progress) -> Measurement[Images]:
    if card.features:
        return NotMeasured(
            reason="a backbone classifies nothing; `rexnet-export backbone` compares its outputs on images"
        )
    if card.numbers:
        return NotMeasured(reason="the model gives numbers, not classes; `rexnet-export` compares them with float")
    if request.eval_data is not None:
        source = _given(request, card)
    elif card.preprocess.channels == RGB and card.labels == bundled("evaluation").class_names:
        source = bundled("evaluation")
    else:
        return NotMeasured(reason="no images: give --eval-data (the bundled ones only serve the bundled labels)")
    return labelled_images(source, card, request.eval_images or SOME_IMAGES, request.seed, progress=progress)


def _names(paths: Sequence[Path]) -> dict[Path, str]:
    """File names, with their folders where two are the same."""
    short = [path.name for path in paths]
    return {path: path.name if short.count(path.name) == 1 else str(path) for path in paths}


def _require_one_network(findings: Sequence[Finding]) -> None:
    cards = {f.name: f.card for f in findings if not isinstance(f.card, NotMeasured)}
    first = next(iter(cards.items()), None)
    for name, card in cards.items():
        assert first is not None
        if card.checkpoint_sha256 != first[1].checkpoint_sha256:
            raise UsageError(
                f"{first[0]} and {name} come from different checkpoints ({first[1].checkpoint_sha256[:12]}, "
                f"{card.checkpoint_sha256[:12]}); verify each release by itself"
            )
        if card != first[1]:
            raise ConversionError(f"{first[0]} and {name} have different labels or preprocessing; export them together")
