"""How many images an exact stage may choose otherwise on, when a comparison needs no statistics, and what flipped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from rexnet_export.apps.gate.accuracy.answers import Comparison, answered
from rexnet_export.apps.gate.accuracy.decision import Policy
from rexnet_export.apps.gate.accuracy.evidence import Evidence
from rexnet_export.apps.gate.accuracy.predictions import LabelledImages, Predictions
from rexnet_export.apps.gate.accuracy.result import Check, CheckName, Outcome

POLICY = Policy(margin=0.02, tolerance=0.01)
FLOAT_POLICY = Policy(margin=0.5, tolerance=0.4)


def predictions(images: int, wrong: int = 0, sha256: str = "a" * 64) -> Predictions:
    """Class 0 for all images but the first `wrong`."""
    return Predictions(file="a.ort", sha256=sha256, executed_by="test", classes=(np.arange(images) < wrong).astype(int))


def comparison(
    images: int, wrong: int, name: CheckName, *, target: str = "ort", sha256: str = "b" * 64, lost: int = 0
) -> Comparison:
    """A candidate with so many wrong beside a reference with `lost` wrong."""
    return Comparison(
        target=target,
        name=name,
        reference_name="main",
        candidate=predictions(images, wrong, sha256),
        reference=predictions(images, lost),
    )


def checks(
    images: int,
    asked: Sequence[Comparison],
    policy: Policy = POLICY,
    right: NDArray[np.int64] | None = None,
    float_policy: Policy = FLOAT_POLICY,
) -> list[Check]:
    """The answers, where class 0 is right on all images, or the classes `right` [images]."""
    found = np.zeros(images, np.int64) if right is None else right
    labels = LabelledImages(name="n", sha256="0" * 64, class_names=("a", "b"), labels=found)
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
    return list(answered(evidence, asked, policy, float_policy))


def outcome(images: int, wrong: int, name: CheckName, sha256: str) -> Outcome:
    (check,) = checks(images, [comparison(images, wrong, name, sha256=sha256)])
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


def test_a_file_is_the_same_everywhere_but_on_another_device() -> None:
    """There other kernels run it: that they answer alike is what is asked."""
    asked = [comparison(20, 0, name, sha256="a" * 64) for name in ("baseline", "device")]
    same, device = checks(20, asked)
    assert (same.outcome, same.message, same.next_step) == (
        "pass",
        "the same file, byte for byte, and the same classes",
        None,
    )
    assert device.outcome == "inconclusive"


@pytest.mark.parametrize(
    ("ours", "theirs", "wrong", "decided_by", "expected"),
    [
        ("c" * 64, "c" * 64, 0, "same weights", "pass"),
        ("c" * 64, "c" * 64, 1, "statistics", "inconclusive"),
        ("c" * 64, "d" * 64, 0, "statistics", "inconclusive"),
        ("c" * 64, None, 0, "statistics", "inconclusive"),
        (None, None, 0, "statistics", "inconclusive"),
    ],
)
def test_float_networks_of_one_checkpoint_that_choose_alike_need_no_statistics(
    ours: str | None, theirs: str | None, wrong: int, decided_by: str, expected: str
) -> None:
    one = comparison(20, wrong, "anchor-float", target="gpu")
    assert one.candidate
    assert one.reference
    sides = {"candidate": replace(one.candidate, float_of=ours), "reference": replace(one.reference, float_of=theirs)}
    (check,) = checks(20, [replace(one, **sides)], float_policy=POLICY)
    assert (check.decided_by, check.outcome) == (decided_by, expected)


def test_a_ratio_of_what_is_the_same_is_the_same() -> None:
    policy = replace(POLICY, ratio=1.0)
    asked = [comparison(20, 5, "baseline", sha256="a" * 64, lost=5), comparison(20, 5, "baseline", lost=5)]
    found = [(check.name, check.decided_by) for check in checks(20, asked, policy)]
    assert found == [
        ("baseline", "same file"),
        ("ratio", "same file"),
        ("baseline", "statistics"),
        ("ratio", "statistics"),
    ]


def test_the_same_files_do_not_count_as_further_claims() -> None:
    """A p value is corrected for the other questions of its name that statistics answer, and for no more."""
    moved = comparison(400, 12, "baseline", lost=4)
    others = [
        comparison(400, 3, "baseline", target="again", sha256="a" * 64, lost=3),
        comparison(400, 12, "float", target="ort", lost=4),
    ]
    alone, *_ = checks(400, [moved, *others])
    two, *_ = checks(400, [moved, replace(moved, target="ort x86")])
    assert alone.numbers
    assert two.numbers
    assert alone.numbers.p_holm == alone.numbers.p
    assert two.numbers.p_holm == pytest.approx(2 * two.numbers.p)


def test_each_question_has_the_policy_of_its_name() -> None:
    names: list[CheckName] = ["baseline", "float", "anchor-release", "anchor-float", "chain", "device", "agreement"]
    margins = [
        check.numbers and check.numbers.margin for check in checks(9, [comparison(9, 1, name) for name in names])
    ]
    assert margins == [0.02, 0.5, 0.02, 0.5, 0.5, 0.02, 0.02]


def test_a_ratio_is_asked_of_baselines_and_of_the_float_network() -> None:
    names: list[CheckName] = ["baseline", "chain", "float", "device"]
    asked = [comparison(9, 1, name) for name in names]
    assert [check.name for check in checks(9, asked)] == names
    with_ratio = checks(9, asked, replace(POLICY, ratio=0.9))
    assert [check.name for check in with_ratio] == ["baseline", "ratio", "chain", "float", "ratio", "device"]
    assert with_ratio[1].ratio
    assert with_ratio[1].ratio.observed == pytest.approx(8 / 9)


@pytest.mark.parametrize(("remedy", "step"), [("export it", "export it"), ("", None)])
@pytest.mark.parametrize("missing", ["candidate", "reference"])
def test_what_is_missing_is_not_compared_and_says_why(missing: str, remedy: str, step: str | None) -> None:
    lacking = {missing: None, "reason": "it is not there", "remedy": remedy}
    there, check = checks(9, [comparison(9, 1, "float"), replace(comparison(9, 1, "float"), **lacking)])
    assert (check.outcome, check.message, check.next_step) == ("not_compared", "it is not there", step)
    assert (check.numbers, check.candidate, check.reference, check.flips) == (None, None, None, ())
    assert there.candidate
    assert there.reference
    assert (there.candidate.name, there.reference.name) == ("candidate", "main")


def test_images_are_counted_by_who_has_them_right() -> None:
    one = comparison(10, 0, "float")
    classes = {"candidate": [0, 0, 0, 1, 1, 0, 1, 1, 1, 1], "reference": [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]}
    sides = {name: replace(predictions(10), classes=np.array(chosen)) for name, chosen in classes.items()}
    (check,) = checks(10, [replace(one, **sides)])
    assert check.numbers
    assert (check.numbers.images, check.numbers.worse, check.numbers.better) == (10, 2, 1)
    assert (check.numbers.top1, check.numbers.reference_top1, check.numbers.agreement) == (0.4, 0.5, 0.7)


def test_where_only_some_images_are_asked_of_their_own_labels_count() -> None:
    """Images 7, 2 and 5 of ten: the device has the second of them wrong, the export the third."""
    sides = {"candidate": [0, 1, 0], "reference": [0, 0, 1]}
    places = np.array([7, 2, 5])
    named = {name: replace(predictions(3), classes=np.array(chosen), places=places) for name, chosen in sides.items()}
    labels = np.array([1, 1, 0, 1, 1, 0, 1, 0, 1, 1])
    one = replace(comparison(3, 0, "device"), **named)
    (check,) = checks(10, [one], right=labels)
    assert check.numbers
    assert (check.numbers.images, check.numbers.worse, check.numbers.better) == (3, 1, 1)
    assert [flip.id for flip in check.flips] == ["2", "5"]


def test_flipped_images_are_those_chosen_otherwise_lost_ones_first_with_rounded_probabilities() -> None:
    one = comparison(4, 0, "float")
    sides = {
        "candidate": replace(
            predictions(4), classes=np.array([0, 0, 1, 1]), confidences=np.array([0.51236, 1, 0.12344, 0.1])
        ),
        "reference": replace(predictions(4), classes=np.array([1, 0, 0, 1])),
    }
    (check,) = checks(4, [replace(one, **sides)])
    assert [(flip.id, flip.label, flip.reference, flip.candidate) for flip in check.flips] == [
        ("2", "a", "a", "b"),
        ("0", "a", "b", "a"),
    ]
    assert [flip.candidate_confidence for flip in check.flips] == [0.1234, 0.5124]
    assert [flip.reference_confidence for flip in check.flips] == [None, None]
