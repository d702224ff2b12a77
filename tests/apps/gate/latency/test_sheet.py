"""Rows and measures of latency gates with chosen times and signals."""

from __future__ import annotations

import pytest
from latency_samples import FORMATS, SIGNALS, gate

from rexnet_export.apps.gate.latency.sheet import sheet
from rexnet_export.apps.gate.words import OnInconclusive, Status


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
