"""How long one image takes, several artifacts measured side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from statistics import median as middle
from time import perf_counter_ns, process_time_ns

import numpy as np
from numpy.typing import NDArray

from rexnet_export.pipeline.core.errors import InvalidMeasurement
from rexnet_export.pipeline.core.progress import Progress
from rexnet_export.pipeline.core.records import AtLeastOne, NotNegative
from rexnet_export.pipeline.machine.environment import processor
from rexnet_export.pipeline.machine.torch_threads import torch_threads
from rexnet_export.pipeline.timing.blocks import kernel_times, steady, turns, watched
from rexnet_export.pipeline.timing.summary import median, quantile

WARM_UP = 5
ROUNDS = 50
KERNEL = 11  # runs of the reference kernel after each round
QUIET_SHARE = 0.75  # of all runs, and of all rounds; the device runner asks for the same share of its pairs
MILLISECOND = 1e6  # nanoseconds


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Milliseconds of one image, batch 1 and one thread: median and 90th percentile of `n` runs on `machine`.

    `samples_ms` are all of them, in the order they were measured, to a tenth of a microsecond.
    """

    p50_ms: NotNegative
    p90_ms: NotNegative
    n: AtLeastOne
    machine: str
    samples_ms: tuple[NotNegative, ...]


def measure(
    runs: Mapping[str, Callable[[NDArray[np.uint8]], object]],
    image: NDArray[np.uint8],
    progress: Progress,
    *,
    rounds: int = ROUNDS,
    clock: Callable[[], int] = perf_counter_ns,
    worked: Callable[[], int] = process_time_ns,
) -> dict[str, Latency]:
    """Time every way to run on the same image [1, S, S, 3], once a round, each round in another random order.

    What slows the machine for a while slows all of them, so ratios hold even where the milliseconds do not. On a
    busy machine there is no number: `InvalidMeasurement` where more than a quarter of the runs waited for a processor,
    or the reference kernel changed its speed over more than a quarter of the rounds.
    """
    if len(image) != 1 or rounds < 1:
        raise InvalidMeasurement(f"latency is of one image in 1 or more rounds, not {len(image)} images in {rounds}")
    spent: dict[str, list[int]] = {name: [] for name in runs}
    waited, kernels = 0, []
    # The other runtimes are opened with one thread each.
    with torch_threads(1), progress.stage("timing", rounds, "rounds") as bar:
        for run in runs.values():
            for _ in range(WARM_UP):
                run(image)
        kernels.append(_kernel(clock))
        for _, order in zip(range(rounds), turns(list(runs), seed=0), strict=False):
            for name in order:
                took, late = watched(partial(runs[name], image), 1, clock=clock, worked=worked)
                spent[name] += took
                waited += late
            kernels.append(_kernel(clock))
            bar.advance()
    require_quiet(waited / (rounds * len(runs)), list(pairwise(kernels)), "rounds")
    machine = processor()
    return {name: _summary(durations, machine) for name, durations in spent.items()}


def _kernel(clock: Callable[[], int]) -> int:
    return round(middle(kernel_times(KERNEL, dropped=2, clock=clock)))


def require_quiet(waited: float, kernels: Sequence[tuple[int, int]], spans: str) -> None:
    """`InvalidMeasurement` where more than a quarter of the runs waited, or of the spans changed the machine's speed.

    `waited` is the share of the runs that did; `kernels` the reference kernel's time before and after each of `spans`.
    """
    trouble = None
    if waited > 1 - QUIET_SHARE:
        trouble = f"{waited:.0%} of the runs waited for a processor"
    elif (changed := sum(not steady(*pair) for pair in kernels) / len(kernels)) > 1 - QUIET_SHARE:
        trouble = f"its speed changed over {changed:.0%} of the {spans}"
    if trouble is not None:
        raise InvalidMeasurement(f"the machine was busy: {trouble}; time again when it is quiet")


def ratio(slower: Latency, faster: Latency) -> float:
    """How many times the median of `slower` is that of `faster`."""
    return slower.p50_ms / faster.p50_ms


def _summary(nanoseconds: list[int], machine: str) -> Latency:
    return Latency(
        p50_ms=median(nanoseconds) / MILLISECOND,
        p90_ms=quantile(nanoseconds, 0.9) / MILLISECOND,
        n=len(nanoseconds),
        machine=machine,
        samples_ms=tuple(round(spent / MILLISECOND, 4) for spent in nanoseconds),
    )
