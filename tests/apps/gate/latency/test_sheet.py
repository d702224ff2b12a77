"""Rows and measures of latency gates with chosen times and signals."""

from __future__ import annotations

from dataclasses import replace

import pytest
from latency_samples import FORMATS, SIGNALS, gate

from rexnet_export.apps.gate.latency.sheet import sheet
from rexnet_export.apps.gate.words import OnInconclusive, Status
from rexnet_export.pipeline.artifact.structure_diff import Comparison
from rexnet_export.pipeline.core.records import Measurement

SAME = Comparison(signals=SIGNALS.signals[2:3])


@pytest.mark.parametrize(
    ("ratios", "kernel_after", "policy", "verdict", "status"),
    [
        ((1.0,) * 5, 100, "fail", "PASS", "passed"),
        ((1.5,) * 5, 100, "fail", "FAIL", "failed"),
        ((1.0, 1.2) * 3, 100, "fail", "INCONCLUSIVE", "error"),
        ((1.0, 1.2) * 3, 100, "warn", "INCONCLUSIVE", "undecided"),
        ((1.0,) * 5, 200, "warn", "INVALID", "error"),
    ],
)
def test_the_speeds_row(
    ratios: tuple[float, ...], kernel_after: int, policy: OnInconclusive, verdict: str, status: Status
) -> None:
    found = sheet(gate(ratios, kernel_after), policy)
    speed, signals = found.rows
    assert (found.words.verdict, speed.words.verdict, speed.words.status) == (verdict, verdict, status)
    assert (signals.words.status, signals.words.reason) == ("skipped", FORMATS.reason)
    assert ("pairs would decide" in speed.words.next_step) == (verdict == "INCONCLUSIVE")
    assert (speed.words.next_step == "run again on a quiet machine") == (verdict == "INVALID")
    assert found.title == "out/new.tflite against out/old.tflite, a processor"
    measures = {metric.measure for metric in found.metrics}
    assert measures == (set() if verdict == "INVALID" else {"latency", "latency ratio"})


def test_signals_are_rows_and_measures() -> None:
    found = sheet(gate((1.0,) * 5, signals=SIGNALS), "fail")
    assert found.words.verdict == "FAIL"
    assert [(row.check, row.words.status, row.words.verdict) for row in found.rows] == [
        ("latency", "passed", "PASS"),
        ("bytes of tensors", "passed", "better"),
        ("operators", "failed", "worse"),
        ("share of INT8 multiply-accumulates", "passed", "same"),
        ("peak arena bytes", "skipped", "not compared"),
    ]
    assert found.rows[1].words.reason == "10 became 9"
    assert found.rows[2].words.reason == "+1 ADD"
    assert found.rows[3].figures == {"base": "100.00%", "candidate": "100.00%"}
    assert [(m.measure, m.value, m.unit, m.better) for m in found.metrics] == [
        ("latency", 2.0, "ms", "smaller"),
        ("latency ratio", 1.0, "times the base", "smaller"),
        ("bytes of tensors", 9, "bytes", "smaller"),
        ("operators", 8, "count", "smaller"),
        ("share of INT8 multiply-accumulates", 1.0, "fraction", "bigger"),
    ]


def test_times_that_do_not_count_are_not_measures_though_a_signal_fails() -> None:
    found = sheet(gate((1.0,) * 5, 200, SIGNALS), "fail")
    assert found.words.verdict == "FAIL"
    assert found.rows[0].words.status == "error"
    assert not {metric.measure for metric in found.metrics} & {"latency", "latency ratio"}


def test_the_speeds_figures_and_measures_are_those_of_the_pairs() -> None:
    found = sheet(gate((1.0, 1.02, 0.98, 1.05)), "fail")
    assert found.rows[0].figures == {
        "base ms": "2.00",
        "candidate ms": "2.04",
        "ratio": "1.010",
        "limits 95%": "1.000 1.020",
        "pairs": "16",
        "dropped": "0",
    }
    latency, ratio = found.metrics
    assert (latency.value, latency.lower, latency.upper, latency.allowed) == (2.04, 1.96, 2.1, None)
    assert (ratio.value, ratio.lower, ratio.upper) == pytest.approx((1.00995, 1.0, 1.02), abs=1e-5)
    assert ratio.allowed == pytest.approx(1.1)


def test_what_has_no_ratio_has_dashes_and_no_measure_of_it() -> None:
    found = sheet(gate((1.0,)), "warn")
    assert (found.rows[0].figures["ratio"], found.rows[0].figures["limits 95%"]) == ("-", "-")
    assert [metric.measure for metric in found.metrics] == ["latency"]


def test_the_last_run_is_shown() -> None:
    first, last = gate((1.0, 1.2) * 3), gate((1.3,) * 6)
    found = sheet(replace(first, runs=(*first.runs, *last.runs)), "fail")
    assert (found.rows[0].figures["candidate ms"], found.metrics[0].lower) == ("2.60", 2.6)


@pytest.mark.parametrize(
    ("ratio", "signals", "counted"),
    [(1.0, SAME, True), (1.0, FORMATS, False), (1.5, SAME, False)],
)
def test_a_pass_says_whether_what_can_be_counted_was_compared(
    ratio: float, signals: Measurement[Comparison], *, counted: bool
) -> None:
    words = sheet(gate((ratio,) * 5, signals=signals), "fail").words
    assert words.reason.endswith("; nothing that can be counted got worse") == counted


def test_a_failure_says_all_that_is_worse() -> None:
    words = sheet(gate((1.5,) * 5, signals=SIGNALS), "fail").words
    assert words.reason == "at least 1.500 times as long, more than the 1.1 allowed; operators: 7 became 8 (+1 ADD)"
