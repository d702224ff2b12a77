from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from rexnet_export.quantization.calibration.channel_spread import ratios, spreads
from rexnet_export.quantization.calibration.observe import TensorStatistics

BINS = 4096


def statistics(minima: list[float], maxima: list[float]) -> TensorStatistics:
    return TensorStatistics(
        images=1,
        minimum=min(minima),
        maximum=max(maxima),
        sum_of_minima=Fraction(min(minima)),
        sum_of_maxima=Fraction(max(maxima)),
        channel_minima=np.array(minima, np.float32),
        channel_maxima=np.array(maxima, np.float32),
        exponent=0,
        counts=np.zeros(2 * BINS, np.int64),
    )


EVEN = statistics([0, 0, 0, 0, 0], [4, 4, 4, 4, 4])
UNEVEN = statistics([0, 0, 0, 0, -1], [0, 1, 2, 3, 3])


def test_ranges_of_channels_are_over_that_of_the_tensor() -> None:
    assert ratios(EVEN) == (1.0,) * 5
    assert ratios(UNEVEN) == pytest.approx((0.0, 0.1, 0.5, 0.9, 1.0))


def test_a_dead_tensor_has_no_range() -> None:
    assert ratios(statistics([0, 0], [0, 0])) == (0.0,) * 5


def test_ratios_have_six_digits() -> None:
    assert ratios(statistics([0, 0], [1, 3]))[0] == 0.333333


@pytest.mark.parametrize(("largest", "listed"), [(100, False), (100.9, False), (101.1, True)])
def test_a_hundredth_of_a_ratio_is_a_change(largest: float, *, listed: bool) -> None:
    before, after = (statistics([0, 0], [each, 200]) for each in (100, largest))
    assert bool(spreads({"x": before}, {"x": after})) == listed


def test_only_tensors_of_both_graphs_that_changed_are_listed() -> None:
    before = {"same": EVEN, "evened": UNEVEN, "split": UNEVEN, "logits": UNEVEN}
    found = spreads(before, {"evened": EVEN, "same": EVEN, "split.g0": EVEN, "logits": UNEVEN})
    assert [(spread.tensor, spread.after) for spread in found] == [("evened", (1.0,) * 5)]
