"""Blocks of timed work, whose turn it is, and the fixed piece of work that shows whether the machine changed its speed.

The latency gate, an export's own timing and the device runner measure with this, so it keeps to Python 3.9 and numpy.
The browser's page does the same by the numbers of the bundle's plan.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter_ns, process_time_ns
from typing import TypeVar

import numpy as np

Name = TypeVar("Name")

KERNEL_SIDE = 96  # about 0.4 ms; both factors stay in the first two caches
OWN_SHARE = 0.9  # of a run's time, which a processor must have worked for it
LARGEST_DRIFT = 0.10  # of the kernel's time, over one pair of blocks


def timed(
    work: Callable[[], object], counted: int, dropped: int = 0, clock: Callable[[], int] = perf_counter_ns
) -> list[int]:
    """Nanoseconds of each of `counted` runs, after `dropped` that do not count; no garbage is collected meanwhile."""
    spent = []
    with _no_collection():
        for _ in range(dropped):
            work()
        for _ in range(counted):
            start = clock()
            work()
            spent.append(clock() - start)
    return spent


def watched(
    work: Callable[[], object],
    counted: int,
    dropped: int = 0,
    clock: Callable[[], int] = perf_counter_ns,
    worked: Callable[[], int] = process_time_ns,
) -> tuple[list[int], int]:
    """The same, and how many of the counted runs waited for a processor; `worked` is the time it gave this process."""
    own: list[int] = []

    def noted() -> None:
        before = worked()
        work()
        own.append(worked() - before)

    spent = timed(noted, counted, dropped, clock)
    return spent, sum(done < OWN_SHARE * took for done, took in zip(own[dropped:], spent))


def kernel_times(counted: int, dropped: int = 0, clock: Callable[[], int] = perf_counter_ns) -> list[int]:
    """The same of a product of two int32 matrices of 96 x 96: numpy computes it in one thread, always."""
    factor = np.arange(KERNEL_SIDE**2, dtype=np.int32).reshape(KERNEL_SIDE, KERNEL_SIDE) % 7
    return timed(lambda: factor @ factor, counted, dropped, clock)


def steady(before: int, after: int) -> bool:
    """Whether the machine was as fast after something as before it, as far as the kernel's times show."""
    return abs(after - before) <= LARGEST_DRIFT * min(before, after)


def turns(names: Sequence[Name], seed: int) -> Iterator[list[Name]]:
    """Without end, the names in one random order after another, the same for the same seed."""
    chosen, order = random.Random(seed), list(names)  # noqa: S311 - an order of work, not a secret
    while True:
        chosen.shuffle(order)
        yield list(order)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Python's garbage collector would run within one run or another."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
