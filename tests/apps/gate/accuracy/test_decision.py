"""The decision rule of the accuracy gate, row by row, and that it errs as rarely as it says."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rexnet_export.apps.gate.accuracy import decision
from rexnet_export.apps.gate.accuracy.decision import FAILURES, Counts, Policy, decide, decide_all, decide_ratio
from rexnet_export.apps.gate.accuracy.sample_size import images_to_detect, images_to_prove
from rexnet_export.pipeline.core.errors import UsageError

POINT = Policy(margin=0.01, tolerance=0.005)


def counts(worse: int, better: int, images: int, top1: float = 0.8) -> Counts:
    both = round(images * top1) - worse
    return Counts(both=both, worse=worse, better=better, neither=images - both - worse - better, same=images - worse)


SAID = {
    "pass": "below the margin of",
    "pass_with_note": "below the margin of",
    "fail_certain": "above the margin of",
    "fail": "above the tolerance of",
    "inconclusive": "cannot decide a margin of",
}


@pytest.mark.parametrize(
    ("worse", "better", "images", "margin", "outcome"),
    [
        pytest.param(150, 150, 10_000, 0.01, "pass", id="1 nothing lost"),
        pytest.param(
            180, 110, 10_000, 0.01, "pass_with_note", id="2 before 4: real, above the tolerance, below the margin"
        ),
        pytest.param(450, 110, 10_000, 0.01, "fail_certain", id="3 surely above the margin"),
        pytest.param(181, 110, 10_000, 0.01, "pass_with_note", id="2 the upper limit just below the margin"),
        pytest.param(182, 110, 10_000, 0.01, "fail", id="4 the upper limit just above the margin"),
        pytest.param(240, 110, 10_000, 0.01, "fail", id="4 the lower limit just below the margin"),
        pytest.param(242, 110, 10_000, 0.01, "fail_certain", id="3 the lower limit just above the margin"),
        pytest.param(300, 220, 10_000, 0.01, "fail", id="4 real, perhaps above the margin"),
        pytest.param(25, 25, 1_000, 0.01, "inconclusive", id="5 too few images"),
        pytest.param(45, 0, 10_000, 0.01, "pass_with_note", id="2 one-sided"),
        pytest.param(0, 400, 10_000, 0.01, "pass", id="a better one never fails"),
        pytest.param(0, 0, 298, 0.01, "inconclusive", id="no difference, one image short"),
        pytest.param(0, 0, 299, 0.01, "pass", id="no difference, just enough"),
        pytest.param(3, 0, 3, 0.01, "fail_certain", id="everything lost"),
    ],
)
def test_rows(worse: int, better: int, images: int, margin: float, outcome: str) -> None:
    found = decide(counts(worse, better, images, top1=1.0), Policy(margin=margin, tolerance=margin / 2))
    assert found.outcome == outcome
    assert (found.numbers.more_images is not None) == (outcome == "inconclusive")
    assert "margin" in found.message or "tolerance" in found.message
    assert SAID[outcome] in found.message
    assert ("is real" in found.message) == (outcome in {"pass_with_note", "fail"})


def test_the_last_check_value_with_a_smaller_margin_fails() -> None:
    assert decide(counts(180, 110, 10_000), Policy(margin=0.0098, tolerance=0.005)).outcome == "fail"
    assert decide(counts(180, 110, 10_000), Policy(margin=0.0098, tolerance=0.0075)).outcome == "inconclusive"


def test_a_limit_that_is_the_margin_itself_is_neither_below_nor_above_it() -> None:
    found = decide(counts(240, 110, 10_000), POINT).numbers
    for margin in (found.drop_lower, found.drop_upper):
        policy = Policy(margin=margin, tolerance=0.005)
        assert decide(counts(240, 110, 10_000), policy).outcome == "fail", margin


@pytest.mark.parametrize(("worse", "outcome"), [(110, "inconclusive"), (111, "fail")])
def test_a_drop_of_the_tolerance_itself_is_tolerated(worse: int, outcome: str) -> None:
    assert decide(counts(worse, 60, 10_000), Policy(margin=0.006, tolerance=0.005)).outcome == outcome


@pytest.mark.parametrize(
    ("counted", "above", "at"),
    [((180, 110, 10_000), "pass_with_note", "pass"), ((300, 220, 10_000), "fail", "inconclusive")],
)
def test_a_p_of_alpha_itself_claims_nothing(counted: tuple[int, int, int], above: str, at: str) -> None:
    p = decide(counts(*counted), POINT).numbers.p
    assert decide(counts(*counted), replace(POINT, fail_alpha=math.nextafter(p, 1))).outcome == above
    assert decide(counts(*counted), replace(POINT, fail_alpha=p)).outcome == at


def test_where_no_image_differs_both_limits_are_exact() -> None:
    found = decide(Counts(both=54, worse=0, better=0, neither=6, same=60), POINT)
    assert found.numbers.drop_upper == pytest.approx(1 - 0.05 ** (1 / 60))
    assert found.numbers.drop_lower == pytest.approx(0.05 ** (1 / 60) - 1)
    assert found.message.startswith("drop +0.00 points, between -4.87 and +4.87: 60 images cannot decide")


def test_numbers_are_those_of_the_counts() -> None:
    found = decide(counts(300, 220, 10_000), POINT).numbers
    assert (found.images, found.worse, found.better) == (10_000, 300, 220)
    assert found.drop == pytest.approx(0.008)
    assert found.discordance == pytest.approx(0.052)
    assert found.top1 == pytest.approx(0.792)
    assert found.reference_top1 == pytest.approx(0.8)
    assert found.agreement == pytest.approx(0.97)
    assert found.p == found.p_holm == pytest.approx(0.00026, abs=5e-6)
    assert found.drop_upper == pytest.approx(0.0118, abs=6e-5)
    assert found.drop_lower < found.drop


@given(st.integers(0, 200), st.integers(0, 200), st.integers(400, 20_000), st.floats(0.001, 0.2))
def test_a_candidate_that_is_not_worse_never_fails(worse: int, better: int, images: int, margin: float) -> None:
    policy = Policy(margin=margin, tolerance=margin / 2)
    found = decide(counts(min(worse, better), better, images, top1=1.0), policy)
    assert found.outcome not in FAILURES


@given(st.integers(0, 100), st.integers(0, 100), st.integers(300, 20_000))
def test_more_losses_never_turn_a_failure_into_a_pass(worse: int, better: int, images: int) -> None:
    order = ["pass", "pass_with_note", "inconclusive", "fail", "fail_certain"]
    ranks = [order.index(decide(counts(worse + k, better, images, 1.0), POINT).outcome) for k in (0, 1, 5, 25, 100)]
    assert ranks == sorted(ranks)


@given(st.integers(0, 60), st.integers(0, 60), st.integers(150, 3_000))
def test_the_images_asked_for_would_usually_do(worse: int, better: int, images: int) -> None:
    found = decide(counts(worse, better, images, 1.0), POINT)
    if found.numbers.more_images is None or found.numbers.more_images < images // 10:
        return
    times = (images + 2 * found.numbers.more_images) / images
    more = counts(round(worse * times), round(better * times), round(images * times), 1.0)
    assert decide(more, POINT).outcome != "inconclusive"


def test_images_asked_for_are_those_of_the_stricter_test() -> None:
    strict = replace(POINT, fail_alpha=0.01)
    found = decide(counts(30, 17, 1_000), strict)
    assert found.outcome == "inconclusive"
    assert found.numbers.more_images == images_to_detect(0.047, 0.013, alpha=0.01) - 1_000


def test_a_drop_of_the_tolerance_itself_can_only_be_shown_to_be_below_the_margin() -> None:
    found = decide(counts(110, 60, 10_000), Policy(margin=0.006, tolerance=0.005))
    assert found.numbers.more_images == images_to_prove(0.017, 0.006, 0.005) - 10_000
    assert found.next_step == "about 94,949 more images are needed"


def test_where_no_number_of_images_decides_twice_as_many_are_asked_for() -> None:
    assert decide(counts(60, 10, 10_000), Policy(margin=0.005, tolerance=0.005)).numbers.more_images == 10_000


def test_one_more_image_is_the_least_that_is_asked_for() -> None:
    """Where only the correction for other targets leaves it undecided, there are images enough for this one."""
    found = decide(counts(182, 110, 10_000), POINT, p_holm=1.0)
    assert (found.outcome, found.numbers.p_holm, found.numbers.more_images) == ("inconclusive", 1.0, 1)


def test_failures_by_p_are_corrected_for_several_targets() -> None:
    close = counts(87, 63, 4_000)  # p 0.03 alone
    policy = Policy(margin=0.009, tolerance=0.004)
    assert decide_all([close], policy)[0].outcome == "fail"
    two = decide_all([close, close], policy)
    assert [verdict.outcome for verdict in two] == ["inconclusive", "inconclusive"]
    assert two[0].numbers.p_holm == pytest.approx(2 * two[0].numbers.p)
    certain = decide_all([counts(450, 110, 10_000)] * 5, policy)
    assert {verdict.outcome for verdict in certain} == {"fail_certain"}


@pytest.mark.parametrize(
    ("both", "worse", "better", "outcome"),
    [(8000, 0, 200, "pass"), (7900, 100, 95, "pass"), (7000, 1000, 0, "fail"), (790, 12, 4, "inconclusive")],
)
def test_ratio(both: int, worse: int, better: int, outcome: str) -> None:
    found = decide_ratio(Counts(both=both, worse=worse, better=better, neither=both // 4, same=both), 0.99)
    assert found.outcome == outcome
    assert found.observed == pytest.approx((both + better) / (both + worse))
    assert "99.0%" in found.message


@pytest.mark.parametrize(("worse", "outcome"), [(11, "pass"), (12, "inconclusive"), (28, "inconclusive"), (29, "fail")])
def test_a_ratio_is_shown_with_95_percent_confidence(worse: int, outcome: str) -> None:
    found = decide_ratio(Counts(both=900 - worse, worse=worse, better=10, neither=90, same=900), 0.99)
    assert found.outcome == outcome


def test_nothing_lost_of_nothing_keeps_every_ratio() -> None:
    found = decide_ratio(Counts(both=0, worse=0, better=0, neither=10, same=10), 0.99)
    assert (found.outcome, found.observed, found.lower, found.upper) == ("pass", 1.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("lower", "upper", "outcome"), [(0.0, 0.1, "pass"), (-0.1, 0.0, "inconclusive"), (-0.1, -1e-9, "fail")]
)
def test_a_limit_of_the_ratio_itself_is_no_failure(
    lower: float, upper: float, outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decision, "ratio_limits", lambda *_: (lower, upper))
    assert decide_ratio(Counts(both=8, worse=1, better=1, neither=1, same=8), 0.99).outcome == outcome


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("margin", value) for value in (0.0, 1e-200, 1.0, -0.1, math.nan, math.inf)),
        *(("tolerance", value) for value in (-0.1, 0.02, math.nan)),
        *((name, value) for name in ("alpha", "fail_alpha") for value in (0.0, 0.5, math.nan)),
        *(("ratio", value) for value in (0.0, 1.1, math.nan)),
    ],
)
def test_senseless_policies_are_refused(field: str, value: float) -> None:
    with pytest.raises(UsageError, match=field.replace("_", "-")):
        replace(POINT, **{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(("field", "value"), [("tolerance", 0.0), ("tolerance", 0.01), ("ratio", 1.0), ("ratio", 1e-6)])
def test_the_ends_of_what_a_policy_may_say_are_taken(field: str, value: float) -> None:
    assert getattr(replace(POINT, **{field: value}), field) == value  # type: ignore[arg-type]


@pytest.mark.parametrize("tries", [300, pytest.param(10_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("images", "discordance"), [(1_000, 0.05), (5_000, 0.03)])
def test_wrong_verdicts_are_as_rare_as_promised(images: int, discordance: float, tries: int) -> None:
    """At no drop at most 5 % fail; at a drop of the margin at most 5 % pass (and a little, the limit is not exact)."""
    rates = {}
    for drop in (0.0, POINT.margin):
        shares = [(discordance + drop) / 2, (discordance - drop) / 2, 1 - discordance]
        drawn = np.random.default_rng(images).multinomial(images, shares, size=tries)
        outcomes = [decide(counts(int(b), int(c), images), POINT).outcome for b, c, _ in drawn]
        rates[drop] = [
            np.mean([o in FAILURES for o in outcomes]),
            np.mean([o.startswith("pass") for o in outcomes]),
        ]
    error = 5 * math.sqrt(0.05 * 0.95 / tries)
    assert rates[0.0][0] <= 0.05 + error
    assert rates[POINT.margin][1] <= 0.055 + error
    assert rates[POINT.margin][0] > rates[0.0][0] + 0.1
