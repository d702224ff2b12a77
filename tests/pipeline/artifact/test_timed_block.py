"""What a block counts, with a clock that only moves when something runs."""

import gc
from dataclasses import dataclass, field

import numpy as np
import pytest

from rexnet_export.pipeline.artifact.timed_block import time_block, time_kernel
from rexnet_export.pipeline.core.errors import InvalidMeasurement

IMAGE = np.zeros((1, 8, 8, 3), np.uint8)


@dataclass
class Slowing:
    """A session whose every inference takes one nanosecond longer than the one before."""

    now: int = 0
    runs: int = 0
    collecting: list[bool] = field(default_factory=list)
    executed_by: str = "fake"
    timed: bool = True

    def run(self, images: np.ndarray) -> np.ndarray:
        self.runs += 1
        self.now += self.runs
        self.collecting.append(gc.isenabled())
        return np.zeros((len(images), 2), np.float32)

    def trace(self, images: np.ndarray) -> dict[str, np.ndarray]:
        raise NotImplementedError(len(images))

    def clock(self) -> int:
        return self.now


def test_the_first_inferences_do_not_count() -> None:
    session = Slowing()
    assert time_block(session, IMAGE, 3, 4, session.clock) == (4, 5, 6, 7)


def test_no_garbage_is_collected_while_timing_but_afterwards_it_is() -> None:
    session = Slowing()
    assert gc.isenabled()
    time_block(session, IMAGE, 1, 1, session.clock)
    assert session.collecting == [False, False]
    assert gc.isenabled()


@pytest.mark.parametrize(("images", "dropped", "counted"), [(2, 0, 1), (0, 0, 1), (1, 0, 0), (1, -1, 1)])
def test_more_than_one_image_or_no_inference_is_refused(images: int, dropped: int, counted: int) -> None:
    with pytest.raises(InvalidMeasurement, match="one image"):
        time_block(Slowing(), np.zeros((images, 8, 8, 3), np.uint8), dropped, counted)


def test_the_kernel_gives_the_median_of_the_runs_that_count() -> None:
    ticks = iter([0, 10, 10, 40, 40, 60])
    assert time_kernel(2, 3, lambda: next(ticks)) == 20
