"""What is claimed of several candidates, and which of them nothing beats."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rexnet_export.apps.export.sweep.findings import Counts, against_best, corrected_p, counts, front


def test_counts_are_of_images_that_one_alone_has_right() -> None:
    right, reference = np.array([1, 1, 0, 0, 0], bool), np.array([1, 0, 1, 1, 0], bool)
    assert counts(right, reference) == Counts(worse=2, better=1, images=5)


def test_claims_are_corrected_within_a_family_alone() -> None:
    good = Counts(worse=4, better=4, images=2000)
    alone = corrected_p([good], 0.005)[0]
    many = against_best({n: ("tflite" if n < 20 else "ort", good) for n in range(21)}, 0.005)
    assert many[20].p_holm == alone
    assert many[0].p_holm == pytest.approx(20 * alone)


def test_the_best_of_twenty_is_not_luck() -> None:
    """Of files that do lose the margin, one is claimed to keep it in at most 5 of 100 sweeps, not in two thirds."""
    random, images, margin, claims, uncorrected = np.random.default_rng(0), 1000, 0.02, 0, 0
    for _ in range(200):
        drawn = random.multinomial(images, (0.03, 0.01, 0.96), size=20)
        found = [Counts(worse=int(worse), better=int(better), images=images) for worse, better, _ in drawn]
        claims += min(corrected_p(found, margin)) < 0.05
        uncorrected += min(corrected_p([each], margin)[0] for each in found) < 0.05
    assert claims / 200 < 0.09
    assert uncorrected / 200 > 0.4


points = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12)


@given(points)
def test_a_front_is_what_nothing_beats(pairs: list[tuple[int, int]]) -> None:
    keys = front((key, gain, cost) for key, (gain, cost) in enumerate(pairs))
    for key, (gain, cost) in enumerate(pairs):
        beaten = any(g >= gain and c <= cost and (g, c) != (gain, cost) for g, c in pairs)
        assert (key in keys) == (not beaten)
