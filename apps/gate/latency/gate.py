"""The latency gate: two artifacts, loaded side by side, timed in turns, judged; and compared in what has no noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from rexnet_export.apps.gate.latency.decision import Decision, Pair, Side, Verdict, decide
from rexnet_export.apps.gate.latency.interleave import SIDES, Blocks, Timed, interleaved, lengths
from rexnet_export.apps.gate.latency.machine import emulator, pinned
from rexnet_export.apps.gate.latency.tail_bound import percentile_bound, thinned
from rexnet_export.pipeline.artifact.export_folder import stored
from rexnet_export.pipeline.artifact.metadata import card_from
from rexnet_export.pipeline.artifact.self_test import enlarge, sample_thumbnails
from rexnet_export.pipeline.artifact.structure_diff import Comparison, Inspectable, Signal, read_two
from rexnet_export.pipeline.core.errors import InvalidMeasurement, UsageError
from rexnet_export.pipeline.core.json import now
from rexnet_export.pipeline.core.progress import Progress
from rexnet_export.pipeline.core.records import RGB, Measurement, NotMeasured, StoredFile
from rexnet_export.pipeline.machine.environment import processor, usable_cores

LEAST_PAIRS = 5  # with fewer no 95 % limit exists
MOST_PAIRS = 1_000
CONFIRM = 2  # times as many pairs in the one planned second run


class LoadedFile(Timed, Inspectable, Protocol):
    """One artifact, open in a process of its own."""

    @property
    def process_id(self) -> int:
        """Of that process."""

    @property
    def executed_by(self) -> str:
        """The runtime and its version."""

    @property
    def timed(self) -> bool:
        """Whether its speed is a runtime's own."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to compare: at most `margin` percent slower passes; `pairs` are fixed before the first one runs."""

    base: Path
    candidate: Path
    pairs: int = 20
    margin: float = 10.0
    threads: int = 1
    seed: int = 0
    blocks: Blocks = field(default_factory=Blocks)

    def __post_init__(self) -> None:
        """Refuse numbers no run could honour."""
        if not LEAST_PAIRS <= self.pairs <= MOST_PAIRS:
            raise UsageError(f"--pairs {self.pairs}: must be {LEAST_PAIRS} to {MOST_PAIRS:,}")
        if not 0 < self.margin < 100:
            raise UsageError(f"--margin {self.margin:g}: must be percent above 0 and below 100")
        if not 1 <= self.threads <= usable_cores():
            raise UsageError(f"--threads {self.threads}: must be 1 to {usable_cores()}, the cores this process may use")
        if self.seed < 0:
            raise UsageError(f"--seed {self.seed}: must be 0 or more")


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """One side: its file, what runs it, and the inferences that count in each of its blocks."""

    file: StoredFile
    executed_by: str
    counted: int


@dataclass(frozen=True, kw_only=True)
class Run:
    """All raw times of one run of pairs, and the decision on them."""

    seed: int
    pairs: tuple[Pair, ...]
    decision: Decision


@dataclass(frozen=True, kw_only=True)
class LatencyGate:
    """All that was found; the last run decides on the speed, and `signals` on what has no noise."""

    base: Contestant
    candidate: Contestant
    margin: float
    threads: int
    cores: Measurement[tuple[int, ...]]
    machine: str
    runs: tuple[Run, ...]
    signals: Measurement[Comparison]
    created: str = field(default_factory=now)

    @property
    def verdict(self) -> Verdict:
        """FAIL where the candidate is surely too slow or anything at all is worse; else the last run's."""
        worse = isinstance(self.signals, Comparison) and self.signals.verdict == "FAIL"
        return "FAIL" if worse else self.decision.verdict

    @property
    def decision(self) -> Decision:
        """On the speed."""
        return self.runs[-1].decision

    @property
    def failures(self) -> tuple[str, ...]:
        """Every reason for FAIL: the speed, and each signal that is worse."""
        slow = (self.decision.reason,) if self.decision.verdict == "FAIL" else ()
        worse = self.signals.worse if isinstance(self.signals, Comparison) else ()
        return (*slow, *(_worse(signal) for signal in worse))

    @property
    def advice(self) -> str:
        """What would decide."""
        needed = self.decision.pairs_needed
        if isinstance(needed, NotMeasured):
            return needed.reason
        if needed > MOST_PAIRS:
            return f"about {needed:,} pairs would decide at this ratio, more than a run may have ({MOST_PAIRS:,})"
        return f"about {needed} pairs would decide at this ratio: give --pairs {max(needed, LEAST_PAIRS)}"


def judged(
    request: Request,
    files: Mapping[Side, Timed],
    image: NDArray[np.uint8],
    counted: Mapping[Side, int],
    progress: Progress,
) -> tuple[Run, ...]:
    """Time two loaded and warmed files in turns; where that cannot decide, once more with twice the pairs."""
    runs: list[Run] = []
    for seed, pairs in _planned(request):
        timed = interleaved(files, image, counted, pairs, request.blocks, seed, progress)
        runs.append(Run(seed=seed, pairs=timed, decision=decide(timed, request.margin / 100, seed)))
        if runs[-1].decision.verdict != "INCONCLUSIVE":
            break
        progress.note(f"{pairs} pairs: inconclusive, {runs[-1].decision.reason}")
    return tuple(runs)


def run(request: Request, open_file: Callable[[Path, int], LoadedFile], progress: Progress) -> LatencyGate:
    """Load both files, time them in turns and compare them; `open_file` takes a path and a number of threads.

    Where the first run cannot decide, there is one more with twice the pairs and a seed of its own, and it decides.
    """
    with ExitStack() as opened:
        files: dict[Side, LoadedFile] = {}
        with pinned(request.threads) as cores:  # what the children are started with, they keep
            for side, path in zip(SIDES, (request.base, request.candidate), strict=True):
                files[side] = opened.enter_context(open_file(path, request.threads))
        for file in files.values():
            _require_real(file)
        *size, channels = _common_shape(files)
        image = enlarge(sample_thumbnails(channels)[:1], (size[0], size[1]))
        counted = lengths(files, image, request.blocks, progress)
        runs = judged(request, files, image, counted, progress)
        return LatencyGate(
            base=_contestant(files["base"], counted["base"]),
            candidate=_contestant(files["candidate"], counted["candidate"]),
            margin=request.margin / 100,
            threads=request.threads,
            cores=cores,
            machine=processor(),
            runs=runs,
            signals=read_two(files["base"], files["candidate"]),
        )


def _worse(signal: Signal) -> str:
    detail = f" ({signal.detail})" if signal.detail else ""
    return f"{signal.name}: {signal.base} became {signal.candidate}{detail}"


def _planned(request: Request) -> Iterator[tuple[int, int]]:
    """Seed and number of pairs of the first run, and of the second if there is one."""
    seeds = np.random.SeedSequence(request.seed).generate_state(2)
    yield int(seeds[0]), request.pairs
    yield int(seeds[1]), CONFIRM * request.pairs


def _common_shape(files: Mapping[Side, LoadedFile]) -> tuple[int, int, int]:
    cards = {side: card_from(file.inspect().metadata).preprocess for side, file in files.items()}
    sizes = {side: (*preprocess.shape, preprocess.channels) for side, preprocess in cards.items()}
    if sizes["base"] != sizes["candidate"]:
        raise UsageError(
            f"{files['base'].path.name} takes images of {_pixels(sizes['base'])} and {files['candidate'].path.name} of "
            f"{_pixels(sizes['candidate'])}: their times cannot be compared; export both for one size"
        )
    return sizes["base"]


def _pixels(shape: tuple[int, int, int]) -> str:
    height, width, channels = shape
    size = f"{height} px" if height == width else f"{width} x {height} px"
    return size if channels == RGB else f"{size} with {channels} channels"


def _require_real(file: LoadedFile) -> None:
    """Refuse a speed that is not a processor's own."""
    if not file.timed:
        raise InvalidMeasurement(
            f"{file.path.name} is executed here by the {file.executed_by}, whose speed says nothing of a device; "
            "time it where its own runtime runs"
        )
    translator = emulator(file.process_id)
    if translator:
        raise InvalidMeasurement(
            f"{file.path.name} runs under {translator}, which translates machine code: its speed is no device's; "
            "time it on the processor itself"
        )


def _contestant(file: LoadedFile, counted: int) -> Contestant:
    return Contestant(file=stored(file.path), executed_by=file.executed_by, counted=counted)


def block_medians(pairs: tuple[Pair, ...], side: Side) -> tuple[int, ...]:
    """Nanoseconds of each block's median, rounded."""
    return tuple(round(float(np.median(_samples(pair, side)))) for pair in pairs)


def middle(pairs: tuple[Pair, ...], side: Side) -> int:
    """The middle one of all block medians."""
    return sorted(block_medians(pairs, side))[len(pairs) // 2]


def tail(pairs: tuple[Pair, ...], side: Side, percentile: float) -> Measurement[int]:
    """Nanoseconds that the percentile is at most, with 99 % confidence: from inferences of the steady pairs, so far
    apart that they no longer resemble each other."""
    samples = [nanoseconds for pair in pairs if pair.steady for nanoseconds in _samples(pair, side)]
    return percentile_bound(thinned(samples) if samples else (), percentile)


def _samples(pair: Pair, side: Side) -> tuple[int, ...]:
    return pair.base_ns if side == "base" else pair.candidate_ns
