"""What the accuracy gate says: every outcome has its words, and all of them come to one sentence."""

from typing import get_args

import pytest
from gate_results import missing, result

from rexnet_export.apps.gate.accuracy.decision import Outcome
from rexnet_export.apps.gate.accuracy.result import Check, CheckOutcome
from rexnet_export.apps.gate.accuracy.words import VERDICTS, check_words, result_words
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
