"""What a block counts, with a clock that only moves when something runs; whose turn it is; and a machine that keeps its
speed."""

import gc
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice

from rexnet_export.pipeline.timing.blocks import kernel_times, steady, timed, turns, watched


@dataclass
class Slowing:
    """Work that takes one nanosecond longer every time."""

    now: int = 0
    runs: int = 0
    collecting: list[bool] = field(default_factory=list)

    def run(self) -> None:
        self.runs += 1
        self.now += self.runs
        self.collecting.append(gc.isenabled())

    def clock(self) -> int:
        return self.now


def test_the_first_runs_do_not_count() -> None:
    work = Slowing()
    assert timed(work.run, 4, 3, work.clock) == [4, 5, 6, 7]


def test_no_garbage_is_collected_while_timing_but_afterwards_it_is() -> None:
    work = Slowing()
    assert gc.isenabled()
    timed(work.run, 1, 1, work.clock)
    assert work.collecting == [False, False]
    assert gc.isenabled()


def test_garbage_that_nobody_collects_stays_so() -> None:
    gc.disable()
    try:
        timed(lambda: None, 1)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_run_that_had_less_than_nine_tenths_of_its_time_has_waited() -> None:
    work = Slowing(runs=99)  # 100, 101, ... nanoseconds, the first of which does not count
    own = iter([0, 0, 0, 90, 90, 182])
    assert watched(work.run, 2, 1, work.clock, lambda: next(own)) == ([101, 102], 1)


def test_the_kernels_first_runs_do_not_count_either() -> None:
    ticks = iter([0, 10, 10, 40, 40, 60])
    assert kernel_times(3, 2, lambda: next(ticks)) == [10, 30, 20]


def test_a_tenth_is_the_most_that_a_machine_may_drift() -> None:
    assert all(steady(*times) for times in ((100, 110), (110, 100), (100, 100)))
    assert not any(steady(*times) for times in ((100, 111), (111, 100), (1, 100)))


def test_turns_follow_the_seed_and_take_every_order() -> None:
    first, again, other = (list(islice(turns("abc", seed), 60)) for seed in (0, 0, 1))
    assert first == again != other
    assert all(sorted(order) == ["a", "b", "c"] for order in first)
    counted = Counter(map("".join, first))
    assert len(counted) == 6
    assert max(counted.values()) < 25
