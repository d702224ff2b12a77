"""How long one image takes, several artifacts measured side by side."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter_ns

import numpy as np
from numpy.typing import NDArray

from rexnet_export.pipeline.core.environment import processor
from rexnet_export.pipeline.core.errors import InvalidMeasurement
from rexnet_export.pipeline.core.progress import Progress
from rexnet_export.pipeline.core.records import AtLeastOne, NotNegative
from rexnet_export.pipeline.core.torch_threads import one_torch_thread

WARM_UP = 5
ROUNDS = 50
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
) -> dict[str, Latency]:
    """Time every way to run on the same image [1, S, S, 3], once a round, each round in another random order.

    What slows the machine for a while slows all of them, so ratios hold even where the milliseconds do not.
    """
    if len(image) != 1 or rounds < 1:
        raise InvalidMeasurement(f"latency is of one image in 1 or more rounds, not {len(image)} images in {rounds}")
    order, random_order = list(runs), random.Random(0)  # noqa: S311 - an order of work, not a secret
    spent: dict[str, list[int]] = {name: [] for name in runs}
    # The other runtimes are opened with one thread each.
    with one_torch_thread(), progress.stage("timing", rounds, "rounds") as bar:
        for run in runs.values():
            for _ in range(WARM_UP):
                run(image)
        for _ in range(rounds):
            random_order.shuffle(order)
            for name in order:
                start = clock()
                runs[name](image)
                spent[name].append(clock() - start)
            bar.advance()
    machine = processor()
    return {name: _summary(durations, machine) for name, durations in spent.items()}


def ratio(slower: Latency, faster: Latency) -> float:
    """How many times the median of `slower` is that of `faster`."""
    return slower.p50_ms / faster.p50_ms


def _summary(nanoseconds: list[int], machine: str) -> Latency:
    p50, p90 = np.percentile(nanoseconds, [50, 90]) / MILLISECOND
    return Latency(
        p50_ms=float(p50),
        p90_ms=float(p90),
        n=len(nanoseconds),
        machine=machine,
        samples_ms=tuple(round(spent / MILLISECOND, 4) for spent in nanoseconds),
    )
