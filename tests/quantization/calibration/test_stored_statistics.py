"""Statistics come back from arrays exact to the digit."""

from __future__ import annotations

import io
from fractions import Fraction

import numpy as np

from rexnet_export.quantization.calibration.observe import TensorStatistics
from rexnet_export.quantization.calibration.stored_statistics import from_arrays, to_arrays


def statistics(seed: int) -> TensorStatistics:
    random = np.random.default_rng(seed)
    return TensorStatistics(
        images=3 + seed,
        minimum=-float(np.float32(random.random())),
        maximum=float(np.float32(random.random())),
        sum_of_minima=Fraction(-1, 3 * 2**149),
        sum_of_maxima=Fraction(2**200 + 1, 7),
        channel_minima=random.random(4, np.float32),
        channel_maxima=random.random(4, np.float32),
        exponent=-160 + seed,
        counts=random.integers(0, 2**60, 8),
    )


def test_what_is_stored_comes_back() -> None:
    before = {"a/b c": statistics(0), "ü": statistics(1)}
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **to_arrays(before))
    stream.seek(0)
    after = from_arrays(dict(np.load(stream, allow_pickle=False)))
    assert list(after) == list(before)
    for name, one in before.items():
        for field, value in vars(one).items():
            found = getattr(after[name], field)
            np.testing.assert_array_equal(found, value)
            assert type(found) is type(value)
            assert not isinstance(value, np.ndarray) or found.dtype == value.dtype
