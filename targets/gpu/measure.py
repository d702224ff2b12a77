"""How fast a form is at a batch size, and what it answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from rexnet_export.pipeline.core.records import AtLeastOne, Measurement, NotMeasured, Positive
from rexnet_export.pipeline.timing.blocks import steady, timed
from rexnet_export.pipeline.timing.summary import SAMPLES_FOR_P90, median, quantile
from rexnet_export.targets.gpu.clocks import Clocks, ReadClocks
from rexnet_export.targets.gpu.forms import Bound

LEAST_WARM, LEAST_CALLS, MOST_CALLS, BLOCKS = 3, 6, 5000, 5
WARM_SHARE = 0.25  # of the seconds of a cell
MS = 1e6  # nanoseconds


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A form at a batch size, from pixels on the device to logits on the device.

    The milliseconds are of single batches, each waited for; `images_per_s` of `n` batches in blocks, each block waited
    for at its end. `steady`: the last half of single batches took as long as the first, to a tenth.
    """

    batch: AtLeastOne
    p10_ms: Positive
    p50_ms: Positive
    p90_ms: Measurement[Positive]
    n: AtLeastOne
    images_per_s: Positive
    steady: bool
    clocks: Measurement[Clocks]


def measure(bound: Bound, batch: int, seconds: float, read: ReadClocks) -> Cell:
    """Warm up, time single batches for half of `seconds`, blocks of them for the other, and read clocks under load."""
    single = _warm(bound, seconds * WARM_SHARE)

    def alone() -> None:
        bound.run()
        bound.wait()

    spent = timed(alone, _calls(seconds / 2, single))
    in_block = max(1, _calls(seconds / 2, median(spent) / 1e9) // BLOCKS)

    def block() -> None:
        for _ in range(in_block):
            bound.run()
        bound.wait()

    blocks = timed(block, BLOCKS, 1)
    for _ in range(in_block):
        bound.run()
    clocks = read()
    bound.wait()
    half = len(spent) // 2
    few = NotMeasured(reason=f"needs {SAMPLES_FOR_P90} samples, has {len(spent)}")
    return Cell(
        batch=batch,
        p10_ms=quantile(spent, 0.1) / MS,
        p50_ms=median(spent) / MS,
        p90_ms=quantile(spent, 0.9) / MS if len(spent) >= SAMPLES_FOR_P90 else few,
        n=len(spent),
        images_per_s=batch * in_block / (median(blocks) / 1e9),
        steady=steady(median(spent[:half]), median(spent[half:])),
        clocks=clocks,
    )


def answers(bound: Bound, batches: Iterable[NDArray[np.uint8]], size: int) -> Iterator[NDArray[np.float32]]:
    """Logits of batches of at most `size` images, which a bound form only takes full: the last is filled up."""
    for images in batches:
        missing = size - len(images)
        bound.load(np.concatenate([images, np.repeat(images[:1], missing, axis=0)]) if missing else images)
        bound.run()
        bound.wait()
        yield bound.logits()[: len(images)]


def _warm(bound: Bound, seconds: float) -> float:
    """Run for so long; seconds of one batch at the end."""
    began, last, calls = perf_counter(), 0.0, 0
    while calls < LEAST_WARM or perf_counter() - began < seconds:
        start = perf_counter()
        bound.run()
        bound.wait()
        last, calls = perf_counter() - start, calls + 1
    return last


def _calls(seconds: float, single: float) -> int:
    return min(MOST_CALLS, max(LEAST_CALLS, round(seconds / max(single, 1e-9))))
