"""How many images an exact stage may choose otherwise on, and when a comparison needs no statistics."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rexnet_export.apps.gate.accuracy.answers import Comparison, answered
from rexnet_export.apps.gate.accuracy.decision import Policy
from rexnet_export.apps.gate.accuracy.evidence import Evidence, LabelledImages, Predictions
from rexnet_export.apps.gate.accuracy.result import CheckName, Outcome

POLICY = Policy(margin=0.02, tolerance=0.01)


def predictions(images: int, wrong: int = 0, sha256: str = "a" * 64) -> Predictions:
    """Class 0 for all images but the first `wrong`."""
    return Predictions(file="a.ort", sha256=sha256, executed_by="test", classes=(np.arange(images) < wrong).astype(int))


def outcome(images: int, wrong: int, name: CheckName, sha256: str) -> Outcome:
    labels = LabelledImages(name="n", sha256="0" * 64, class_names=("a", "b"), labels=np.zeros(images, np.int64))
    evidence = Evidence(
        source="here",
        model="rexnet_100",
        precision="int8",
        images=labels,
        ids=tuple(map(str, range(images))),
        processor="p",
        reference=predictions(images),
        stages={},
        targets={},
        not_run={},
    )
    one = Comparison(
        target="ort",
        name=name,
        reference_name="float",
        candidate=predictions(images, wrong, sha256),
        reference=predictions(images),
    )
    (check,) = answered(evidence, [one], POLICY, replace(POLICY))
    return check.outcome


@pytest.mark.parametrize(
    ("images", "wrong", "expected"),
    [(10, 1, "pass"), (10, 2, "fail"), (1999, 1, "pass"), (1999, 2, "fail"), (3000, 3, "pass"), (3000, 4, "fail")],
)
def test_an_exact_stage_may_differ_on_one_image_in_a_thousand(images: int, wrong: int, expected: Outcome) -> None:
    assert outcome(images, wrong, "agreement", "b" * 64) == expected


def test_only_the_same_bytes_with_the_same_classes_need_no_statistics() -> None:
    assert outcome(20, 0, "baseline", "a" * 64) == "pass"
    assert outcome(20, 0, "baseline", "b" * 64) == "inconclusive"
    assert outcome(20, 1, "baseline", "a" * 64) == "inconclusive"
