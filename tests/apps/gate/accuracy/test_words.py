"""What the accuracy gate says: every outcome has its words, and all of them come to one sentence."""

from dataclasses import replace
from typing import get_args

import pytest
from gate_results import POLICY, missing, result

from rexnet_export.apps.gate.accuracy.decision import Counts, Outcome, decide
from rexnet_export.apps.gate.accuracy.result import Check, CheckOutcome
from rexnet_export.apps.gate.accuracy.words import VERDICTS, check_words, reasons, result_words
from rexnet_export.apps.gate.words import Words


def check(outcome: CheckOutcome, next_step: str | None = None) -> Check:
    return Check(target="ort", name="float", outcome=outcome, message="why", next_step=next_step)


def test_every_outcome_has_words() -> None:
    assert set(VERDICTS) == {*get_args(Outcome.__value__), "not_compared"}


@pytest.mark.parametrize(
    ("outcome", "verdict", "status"),
    [
        ("pass", "PASS", "passed"),
        ("pass_with_note", "PASS, note", "noted"),
        ("fail_certain", "FAIL, certain", "failed"),
        ("fail", "FAIL", "failed"),
        ("not_compared", "NOT COMPARED", "error"),
    ],
)
def test_what_each_means_for_a_build(outcome: CheckOutcome, verdict: str, status: str) -> None:
    words = check_words(check(outcome), "warn")
    assert (words.verdict, words.status, words.sentence) == (verdict, status, "why")


def test_the_policy_says_what_is_undecided() -> None:
    undecided = check("inconclusive", "measure more")
    assert check_words(undecided, "fail").status == "error"
    assert check_words(undecided, "warn").status == "undecided"
    assert check_words(undecided, "warn").sentence == "why; measure more"


def test_words_have_a_style_of_their_own() -> None:
    assert Words(verdict="FAIL", status="failed", reason="x").style == "bold red"


def undecided(target: str, worse: int, more: int, images: int = 60) -> Check:
    """A check whose images are too few, with so many of them lost."""
    counts = Counts(both=images - worse, worse=worse, better=0, neither=0, same=images - worse)
    verdict = decide(counts, POLICY)
    assert verdict.outcome == "inconclusive"
    numbers = replace(verdict.numbers, more_images=more)
    return replace(
        check("inconclusive", f"about {more:,} more images are needed"),
        target=target,
        message=verdict.message,
        numbers=numbers,
    )


def test_too_few_images_are_one_reason_whatever_each_check_saw() -> None:
    few = [undecided("ort", 0, 538), undecided("tflite", 1, 4062), undecided("gpu", 0, 538)]
    alone, both, two_sets = (
        [reason.line for reason in reasons(result(*checks))]
        for checks in (few[:1], [few[0], few[2]], [*few, undecided("coreml", 0, 540, images=50)])
    )
    seen = "drop +0.00 points, between -4.87 and +4.87: 60 images cannot decide a margin of 0.5; about 538 more"
    assert alone == [f"ort float: {seen} images are needed"]
    assert both == [alone[0].replace("ort float", "ort float, gpu float")]
    assert two_sets[0] == (
        "ort float, tflite float, gpu float: 60 images cannot decide a margin of 0.5; "
        "about 538 to 4,062 more images are needed"
    )
    assert two_sets[1].startswith("coreml float: drop +0.00 points, between ")
    assert len(two_sets) == 2


def test_a_check_that_lacks_images_says_so_as_its_record_does() -> None:
    one = undecided("tflite", 1, 4062)
    assert check_words(one, "fail").sentence == f"{one.message}; about 4,062 more images are needed"


def failed(target: str, message: str = "worse") -> Check:
    return Check(target=target, name="float", outcome="fail", message=message)


@pytest.mark.parametrize(
    ("checks", "verdict", "reason"),
    [
        ((), "NOT COMPARED", "out has nothing to compare"),
        ((missing("ort"), missing("ort")), "NOT COMPARED", "no ort; export it again"),
        ((missing("ort"), missing("tflite")), "NOT COMPARED", "no ort; export it again; no tflite; export it again"),
        ((check("pass"), missing("ort")), "NOT COMPARED", "no ort; export it again"),
        ((check("pass"),), "PASS", "1 check on 10,000 images"),
        ((check("pass"), check("pass")), "PASS", "2 checks on 10,000 images"),
        ((check("pass"), check("pass_with_note")), "PASS", "ort float: why"),
        (
            (failed("ort"), failed("ort x86"), check("pass")),
            "FAIL, broken at ort, ort x86",
            "ort float, ort x86 float: worse",
        ),
        (
            (failed("ort", "a"), failed("tflite", "b"), missing("c")),
            "FAIL, broken at ort, tflite",
            "ort float: a; tflite float: b",
        ),
        ((check("inconclusive", "measure more"), check("pass")), "INCONCLUSIVE", "ort float: why; measure more"),
        ((check("inconclusive"), check("pass_with_note")), "INCONCLUSIVE", "ort float: why"),
        (tuple(failed(name) for name in "abc"), "FAIL, broken at a, b, c", "a float, b float, c float: worse"),
        (tuple(failed(name) for name in "abcd"), "FAIL, broken at a, b, c, d", "4 of 4 checks: worse"),
    ],
)
def test_what_it_all_comes_to(checks: tuple[Check, ...], verdict: str, reason: str) -> None:
    words = result_words(result(*checks))
    assert (words.verdict, words.reason) == (verdict, reason)


@pytest.mark.parametrize(
    ("checks", "status"),
    [
        ((check("pass"),), "passed"),
        ((failed("ort"),), "failed"),
        ((missing("ort"),), "error"),
        ((check("inconclusive"),), "error"),
    ],
)
def test_what_it_all_means_for_a_build(checks: tuple[Check, ...], status: str) -> None:
    assert result_words(result(*checks)).status == status
