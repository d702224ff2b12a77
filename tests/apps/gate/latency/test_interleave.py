"""The order of blocks and their lengths, with artifacts that only pretend to run."""

import numpy as np
import pytest
from timed_files import FakeTimed

from rexnet_export.apps.gate.latency.decision import Pair, Side
from rexnet_export.apps.gate.latency.interleave import Blocks, block_length, interleaved, lengths
from rexnet_export.pipeline.core.errors import InvalidMeasurement, ProcessEnded
from rexnet_export.pipeline.core.progress import Silent

WARM_UP = 20

IMAGE = np.zeros((1, 8, 8, 3), np.uint8)
COUNTED: dict[Side, int] = {"base": 30, "candidate": 40}


def files() -> dict[Side, FakeTimed]:
    base, candidate = FakeTimed("base", 2.0), FakeTimed("candidate", 3.0)
    candidate.asked = base.asked
    return {"base": base, "candidate": candidate}


def measured(seed: int, pairs: int = 20) -> tuple[tuple[Pair, ...], list[tuple[str, str, int, int]]]:
    pretended = files()
    return interleaved(pretended, IMAGE, COUNTED, pairs, Blocks(), seed, Silent()), pretended["base"].asked


@pytest.mark.parametrize(
    ("milliseconds", "inferences"),
    [(1.0, 100), (5.0, 60), (10.0, 30), (60.0, 30), (100.0, 20), (1000.0, 5)],
)
def test_a_block_has_thirty_to_a_hundred_inferences_unless_they_take_too_long(
    milliseconds: float, inferences: int
) -> None:
    assert block_length(milliseconds * 1e6, Blocks()) == inferences


def test_lengths_are_fixed_after_warming_up() -> None:
    pretended = files()
    assert lengths(pretended, IMAGE, Blocks(), Silent()) == {"base": 100, "candidate": 100}
    assert pretended["base"].asked == [("base", "block", 5, WARM_UP), ("candidate", "block", 5, WARM_UP)]


def test_a_pair_is_one_block_of_each_between_two_kernels() -> None:
    (pair,), asked = measured(seed=0, pairs=1)
    first, second = pair.order
    assert [step[:2] for step in asked] == [("base", "kernel"), (first, "block"), (second, "block"), ("base", "kernel")]
    assert {name: counted for name, kind, _, counted in asked if kind == "block"} == COUNTED
    assert {(dropped, counted) for _, kind, dropped, counted in asked if kind == "kernel"} == {(5, 21)}
    assert {dropped for _, kind, dropped, _ in asked if kind == "block"} == {5}
    assert pair.base_ns == (2_000_000,) * 30
    assert pair.candidate_ns == (3_000_000,) * 40
    assert (pair.kernel_before_ns, pair.kernel_after_ns) == (400_000, 400_000)


def test_both_orders_occur_and_follow_the_seed() -> None:
    orders = [[pair.order for pair in measured(seed)[0]] for seed in (0, 0, 1)]
    assert set(orders[0]) == {("base", "candidate"), ("candidate", "base")}
    assert orders[0] == orders[1] != orders[2]


def test_kernels_are_kept_on_the_side_they_were_timed() -> None:
    pretended = files()
    pretended["base"] = FakeTimed("base", 2.0, kernels=[100.0, 200.0])
    (pair,) = interleaved(pretended, IMAGE, COUNTED, 1, Blocks(), 0, Silent())
    assert (pair.kernel_before_ns, pair.kernel_after_ns, pair.steady) == (100_000, 200_000, False)


def test_a_process_that_ends_while_timed_makes_the_measurement_invalid() -> None:
    class Dying(FakeTimed):
        def time_block(self, image: np.ndarray, *, dropped: int, counted: int) -> tuple[int, ...]:
            super().time_block(image, dropped=dropped, counted=counted)
            raise ProcessEnded("candidate.tflite crashed")

    pretended: dict[Side, FakeTimed] = {**files(), "candidate": Dying("candidate", 1.0)}
    with pytest.raises(InvalidMeasurement, match=r"while it was timed, candidate\.tflite crashed"):
        interleaved(pretended, IMAGE, COUNTED, 1, Blocks(), 0, Silent())
