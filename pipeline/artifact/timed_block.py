"""A block of timed inferences, and the fixed piece of work that shows whether the machine itself changed speed."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median_low
from time import perf_counter_ns

import numpy as np
from numpy.typing import NDArray

from rexnet_export.pipeline.artifact.target import Session
from rexnet_export.pipeline.core.errors import InvalidMeasurement

KERNEL_SIZE = 96  # about 0.4 ms; both factors stay in the first two caches


def time_block(
    session: Session,
    image: NDArray[np.uint8],
    dropped: int,
    counted: int,
    clock: Callable[[], int] = perf_counter_ns,
) -> tuple[int, ...]:
    """Nanoseconds of each of `counted` inferences of one image [1, S, S, 3], after `dropped` that do not count."""
    if len(image) != 1 or counted < 1 or dropped < 0:
        raise InvalidMeasurement(f"a block is of one image and 1 or more inferences, not {len(image)} and {counted}")
    return _timed(lambda: session.run(image), dropped, counted, clock)


def time_kernel(dropped: int, counted: int, clock: Callable[[], int] = perf_counter_ns) -> int:
    """Median nanoseconds of a product of two int32 matrices of 96 x 96: numpy computes it in one thread, always."""
    factor = np.arange(KERNEL_SIZE**2, dtype=np.int32).reshape(KERNEL_SIZE, KERNEL_SIZE) % 7
    return median_low(_timed(lambda: factor @ factor, dropped, counted, clock))


def _timed(work: Callable[[], object], dropped: int, counted: int, clock: Callable[[], int]) -> tuple[int, ...]:
    spent = []
    with _no_collection():
        for _ in range(dropped):
            work()
        for _ in range(counted):
            start = clock()
            work()
            spent.append(clock() - start)
    return tuple(spent)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Python's garbage collector would run within one inference or another."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
