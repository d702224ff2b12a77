"""Two loaded artifacts timed in turns, block by block."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from rexnet_export.apps.gate.latency.decision import Pair, Side
from rexnet_export.pipeline.core.errors import InvalidMeasurement, ProcessEnded
from rexnet_export.pipeline.core.progress import Progress
from rexnet_export.pipeline.timing.blocks import turns

WARM_UP = 20
SECOND = 1e9  # nanoseconds
SIDES: tuple[Side, ...] = get_args(Side.__value__)


class Timed(Protocol):
    """One artifact, loaded in a process of its own."""

    def time_block(self, image: NDArray[np.uint8], *, dropped: int, counted: int) -> tuple[int, ...]:
        """Nanoseconds of each of `counted` inferences of one image, after `dropped` that do not count."""

    def time_kernel(self, *, dropped: int, counted: int) -> int:
        """Median nanoseconds of the reference kernel."""


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """How long a block is: the inferences that take `seconds`, but `least` to `most`, and never beyond `longest_s`.

    The first `dropped` of a block do not count: the other artifact has left its own data in the caches.
    """

    seconds: float = 0.3
    least: int = 30
    most: int = 100
    longest_s: float = 2.0
    dropped: int = 5
    kernel: int = 21


def lengths(
    files: Mapping[Side, Timed], image: NDArray[np.uint8], blocks: Blocks, progress: Progress
) -> dict[Side, int]:
    """Warm both up; inferences of one block of each, fixed before the first pair."""
    found: dict[Side, int] = {}
    with progress.stage("warming up", len(SIDES), "files") as bar:
        for side in SIDES:
            spent = files[side].time_block(image, dropped=blocks.dropped, counted=WARM_UP)
            found[side] = block_length(median(spent), blocks)
            bar.advance()
    return found


def block_length(nanoseconds: float, blocks: Blocks) -> int:
    """Inferences of one block, each of which takes so long."""
    wanted = round(blocks.seconds * SECOND / nanoseconds)
    affordable = int(blocks.longest_s * SECOND / nanoseconds)
    return max(5, min(affordable, blocks.most, max(blocks.least, wanted)))


def interleaved(
    files: Mapping[Side, Timed],
    image: NDArray[np.uint8],
    counted: Mapping[Side, int],
    pairs: int,
    blocks: Blocks,
    seed: int,
    progress: Progress,
) -> tuple[Pair, ...]:
    """Time so many pairs, each in an order of its own drawn from the seed, the reference kernel around each."""
    found = []
    with progress.stage("timing", pairs, "pairs") as bar:
        for _, (first, second) in zip(range(pairs), turns(SIDES, seed), strict=False):
            try:
                found.append(_pair(files, image, counted, (first, second), blocks))
            except ProcessEnded as error:
                raise InvalidMeasurement(f"while it was timed, {error}; or run again if it was killed") from error
            bar.advance()
    return tuple(found)


def _pair(
    files: Mapping[Side, Timed],
    image: NDArray[np.uint8],
    counted: Mapping[Side, int],
    order: tuple[Side, Side],
    blocks: Blocks,
) -> Pair:
    before = files["base"].time_kernel(dropped=blocks.dropped, counted=blocks.kernel)
    spent = {side: files[side].time_block(image, dropped=blocks.dropped, counted=counted[side]) for side in order}
    after = files["base"].time_kernel(dropped=blocks.dropped, counted=blocks.kernel)
    return Pair(
        order=order,
        base_ns=spent["base"],
        candidate_ns=spent["candidate"],
        kernel_before_ns=before,
        kernel_after_ns=after,
    )
