"""What latency figures mean, with a clock that only moves when a session runs."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from rexnet_export.pipeline.core.errors import InvalidMeasurement
from rexnet_export.pipeline.core.progress import Silent
from rexnet_export.pipeline.machine.environment import processor
from rexnet_export.pipeline.proof import latency as module
from rexnet_export.pipeline.proof.latency import Latency, measure, ratio

WARM_UP = 5

IMAGE = np.zeros((1, 32, 32, 3), np.uint8)


@dataclass
class Clock:
    """Nanoseconds, and who ran when."""

    now: int = 0
    runs: list[str] = field(default_factory=list)

    def __call__(self) -> int:
        return self.now


@dataclass
class FakeSession:
    """Takes the listed milliseconds, one run after another, then the last one for ever."""

    name: str
    clock: Clock
    milliseconds: list[float]
    executed_by: str = "fake"
    timed: bool = True
    torch_threads: int = 0

    def run(self, images: np.ndarray) -> np.ndarray:
        self.torch_threads = torch.get_num_threads()
        self.clock.runs.append(self.name)
        ms = self.milliseconds.pop(0) if len(self.milliseconds) > 1 else self.milliseconds[0]
        self.clock.now += round(ms * 1e6)
        return np.zeros((len(images), 2), np.float32)


def runs(clock: Clock, **milliseconds: list[float]) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    return {name: FakeSession(name, clock, times).run for name, times in milliseconds.items()}


def test_median_and_percentile_are_of_the_timed_runs_only() -> None:
    clock = Clock()
    slow_start = [1000.0] * WARM_UP + [float(ms) for ms in range(1, 12)]
    result = measure(runs(clock, a=slow_start), IMAGE, Silent(), rounds=11, clock=clock, worked=clock)
    samples = tuple(float(ms) for ms in range(1, 12))
    assert result == {"a": Latency(p50_ms=6.0, p90_ms=10.0, n=11, machine=processor(), samples_ms=samples)}


def test_sessions_take_turns_in_changing_order() -> None:
    clock = Clock()
    measure(runs(clock, a=[1], b=[1], c=[1]), IMAGE, Silent(), rounds=30, clock=clock, worked=clock)
    timed = clock.runs[3 * WARM_UP :]
    rounds = [tuple(timed[start : start + 3]) for start in range(0, 90, 3)]
    assert {frozenset(names) for names in rounds} == {frozenset("abc")}
    assert len(set(rounds)) == 6


def test_the_order_is_the_same_every_time() -> None:
    orders = []
    for _ in range(2):
        clock = Clock()
        measure(runs(clock, a=[1], b=[1]), IMAGE, Silent(), rounds=20, clock=clock, worked=clock)
        orders.append(clock.runs)
    assert orders[0] == orders[1]


def test_ratio_compares_medians() -> None:
    clock = Clock()
    result = measure(runs(clock, float32=[9.0], int8=[3.0]), IMAGE, Silent(), rounds=3, clock=clock, worked=clock)
    assert ratio(result["float32"], result["int8"]) == pytest.approx(3.0)


def test_torch_runs_on_one_thread_while_timing_and_gets_its_threads_back() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        session = FakeSession("a", clock := Clock(), [1])
        measure({"a": session.run}, IMAGE, Silent(), rounds=1, clock=clock, worked=clock)
        assert (session.torch_threads, torch.get_num_threads()) == (1, 2)
    finally:
        torch.set_num_threads(before)


@dataclass
class Shared(Clock):
    """A processor that works for others too: of each `every` reads of its work, one run waited as long as it worked."""

    every: int = 1
    reads: int = 0
    worked: int = 0

    def work(self) -> int:
        """Nanoseconds the processor worked for us; read before and after each run."""
        self.reads += 1
        if self.reads % 2:
            self.began = self.now
        else:
            waits = (self.reads // 2) % self.every == 0
            self.worked += (self.now - self.began) // (2 if waits else 1)
        return self.worked


@pytest.mark.parametrize(("every", "busy"), [(4, False), (3, True), (1, True)])
def test_a_busy_machine_gives_a_reason_and_no_number(every: int, busy: bool) -> None:  # noqa: FBT001
    clock = Shared(every=every)

    def timing() -> dict[str, Latency]:
        return measure(runs(clock, a=[1]), IMAGE, Silent(), rounds=24, clock=clock, worked=clock.work)

    if busy:
        with pytest.raises(
            InvalidMeasurement, match=rf"busy: {1 / every:.0%} of the runs waited for a processor; time"
        ):
            timing()
    else:
        assert timing()["a"].n == 24


@pytest.mark.parametrize(("every", "busy"), [(4, False), (3, True)])
def test_a_machine_that_changes_its_speed_gives_none_either(
    every: int,
    busy: bool,  # noqa: FBT001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kernels = iter(range(1, 26))  # one before the first round, one after each of 24
    monkeypatch.setattr(module, "_kernel", lambda _: 100 * (1 + next(kernels) // every))
    monkeypatch.setattr(module, "steady", lambda before, after: before == after)
    clock = Clock()

    def timing() -> dict[str, Latency]:
        return measure(runs(clock, a=[1]), IMAGE, Silent(), rounds=24, clock=clock, worked=clock)

    if busy:
        with pytest.raises(InvalidMeasurement, match="busy: its speed changed over 33% of the rounds"):
            timing()
    else:
        assert timing()["a"].n == 24


@pytest.mark.parametrize(("images", "rounds"), [(2, 1), (0, 1), (1, 0)])
def test_more_than_one_image_or_no_rounds_is_refused(images: int, rounds: int) -> None:
    with pytest.raises(InvalidMeasurement):
        measure({}, np.zeros((images, 32, 32, 3), np.uint8), Silent(), rounds=rounds)


def test_the_machine_has_a_name() -> None:
    assert processor().strip()
