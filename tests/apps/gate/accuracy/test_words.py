"""What the accuracy gate says: every outcome has its words, and all of them come to one sentence."""

from typing import get_args

import pytest

from rexnet_export.apps.gate.accuracy.decision import Outcome
from rexnet_export.apps.gate.accuracy.result import Check, CheckOutcome
from rexnet_export.apps.gate.accuracy.words import VERDICTS, check_words
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
