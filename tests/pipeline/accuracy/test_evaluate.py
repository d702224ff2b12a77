from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from rexnet_export.pipeline.accuracy.evaluate import Logits, accuracy, agreement, logit_sqnr_db, run_sessions, top1
from rexnet_export.pipeline.accuracy.paired_statistics import drop_lower_limit, drop_upper_limit, no_discordance_limit
from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.progress import Silent
from rexnet_export.pipeline.core.records import Preprocess
from rexnet_export.pipeline.data.sources import bundled

LABELS = np.array([0, 1, 2, 0, 1])


def logits(*choices: int) -> Logits:
    """Logits whose largest is the choice."""
    return np.eye(3, dtype=np.float32)[list(choices)]


class Fake:
    """A session that computes its logits from the images by a given rule and remembers the batch sizes."""

    executed_by = "a fake runtime"
    timed = True

    def __init__(self, rule: Callable[[NDArray[np.uint8]], Logits]) -> None:
        self.rule = rule
        self.batches: list[int] = []

    def run(self, images: NDArray[np.uint8]) -> Logits:
        self.batches.append(len(images))
        return self.rule(images)


def test_top1_counts_right_choices() -> None:
    assert top1(logits(0, 1, 2, 1, 2), LABELS) == 0.6


def test_accuracy_is_paired_by_image() -> None:
    reference = logits(0, 1, 2, 1, 1)  # wrong on the fourth
    candidate = logits(0, 2, 0, 0, 1)  # wrong on the second and third, better on the fourth
    found = accuracy(candidate, reference, LABELS)
    assert (found.n, found.top1, found.reference_top1) == (5, 0.6, 0.8)
    assert found.drop == pytest.approx(found.reference_top1 - found.top1)
    assert found.drop_upper_95 == drop_upper_limit(worse=2, better=1, images=5)
    assert found.drop_lower_95 == drop_lower_limit(worse=2, better=1, images=5)


def test_without_any_difference_the_limit_is_the_exact_one() -> None:
    same = logits(0, 1, 2, 0, 1)
    found = accuracy(same, same, LABELS)
    assert (-found.drop_lower_95, found.drop_upper_95) == (no_discordance_limit(5),) * 2


def test_a_better_candidate_has_a_negative_drop() -> None:
    assert accuracy(logits(0, 1, 2, 0, 1), logits(1, 1, 2, 0, 1), LABELS).drop == -0.2


def test_agreement_needs_no_labels() -> None:
    assert agreement(logits(0, 1, 2, 1), logits(0, 1, 0, 1)) == 0.75


def test_logit_sqnr_is_relative_to_the_reference() -> None:
    reference = np.array([[10.0, 0.0]], np.float32)
    assert logit_sqnr_db(reference + np.float32([[1.0, 0.0]]), reference) == pytest.approx(20.0)
    assert logit_sqnr_db(reference, reference) == math.inf


def test_every_session_sees_every_image_in_order() -> None:
    source, preprocess = bundled("evaluation"), Preprocess(size=32, crop_ratio=1.0)
    means = Fake(lambda images: images.reshape(len(images), -1).mean(1, dtype=np.float32)[:, None])
    zeros = Fake(lambda images: np.zeros((len(images), 1), np.float32))
    indices = list(range(69, -1, -1))
    found = run_sessions({"means": means, "zeros": zeros}, source, preprocess, indices, Silent())
    again = run_sessions({"means": means}, source, preprocess, indices[::-1], Silent())
    assert means.batches[:2] == zeros.batches == [64, 6]
    assert found["zeros"].shape == (70, 1)
    assert len(np.unique(found["means"])) > 60
    np.testing.assert_array_equal(found["means"], again["means"][::-1])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_logits_that_are_not_finite_are_refused(bad: float) -> None:
    good = Fake(lambda images: np.zeros((len(images), 3), np.float32))
    broken = Fake(lambda images: np.array([[0.0, bad, 0.0]] * len(images), np.float32))
    with pytest.raises(ConversionError, match="tflite: a fake runtime gave logits that are not finite"):
        run_sessions({"ort": good, "tflite": broken}, bundled("evaluation"), Preprocess(size=32), [0, 1], Silent())
