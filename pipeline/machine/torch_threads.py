"""How many threads torch uses, for a while; where nothing has loaded torch, nothing runs in it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

type Outputs = dict[str, NDArray[np.float32]]


def thread_count() -> int:
    """How many threads each operation of torch has; 1 where torch is not loaded."""
    torch = sys.modules.get("torch")
    return torch.get_num_threads() if torch else 1


@contextmanager
def torch_threads(count: int) -> Iterator[int]:
    """So many threads for each operation inside the context; torch's number is the process's, so it is put back.

    Yields how many there were.
    """
    torch, before = sys.modules.get("torch"), thread_count()
    if torch:
        torch.set_num_threads(count)
    try:
        yield before
    finally:
        if torch:
            torch.set_num_threads(before)


def side_by_side(run: Callable[[NDArray[np.uint8]], Outputs], images: NDArray[np.uint8], count: int) -> Outputs:
    """The outputs of `run` for all images, `count` at once: batches on a thread each, in the order of the images.

    In place of threads that wait for each other in every operation of one batch.
    """
    parts = [images[start : start + count] for start in range(0, len(images), count)]
    with torch_threads(1) as threads, ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(run, parts))
    return {name: np.concatenate([part[name] for part in found]) for name in found[0]}
