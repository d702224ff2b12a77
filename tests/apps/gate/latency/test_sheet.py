"""Rows and measures of latency gates with chosen times and signals."""

from __future__ import annotations

from pathlib import Path

import pytest

from rexnet_export.apps.gate.accuracy.decision import OnInconclusive
from rexnet_export.apps.gate.latency.decision import Pair, decide
from rexnet_export.apps.gate.latency.gate import Contestant, LatencyGate, Run
from rexnet_export.apps.gate.latency.sheet import sheet
from rexnet_export.apps.gate.outputs.sheet import Status
from rexnet_export.pipeline.artifact.structure_diff import Comparison, Signal
from rexnet_export.pipeline.core.records import Measurement, NotMeasured, StoredFile

SIGNALS = Comparison(
    signals=(
        Signal(name="bytes of tensors", base=10, candidate=9, change="better"),
        Signal(name="operators", base=7, candidate=8, change="worse", detail="+1 ADD"),
        Signal(name="share of INT8 multiply-accumulates", base=1.0, candidate=1.0, change="same"),
        Signal(
            name="peak arena bytes",
            base=NotMeasured(reason="no plan"),
            candidate=NotMeasured(reason="no plan"),
            change="not compared",
            detail="no plan",
        ),
    )
)
FORMATS = NotMeasured(reason="a .tflite and a .ort file are built of different parts")


def gate(ratios: tuple[float, ...], kernel_after: int = 100, signals: Measurement[Comparison] = FORMATS) -> LatencyGate:
    pairs = tuple(
        Pair(
            order=("base", "candidate"),
            base_ns=(2_000_000,) * 3,
            candidate_ns=(round(2_000_000 * ratio),) * 3,
            kernel_before_ns=100,
            kernel_after_ns=kernel_after,
        )
        for ratio in ratios * 4
    )

    def side(name: str) -> Contestant:
        file = StoredFile(path=Path("out") / name, sha256="0" * 64, bytes=1)
        return Contestant(file=file, executed_by="fake", counted=3)

    return LatencyGate(
        base=side("old.tflite"),
        candidate=side("new.tflite"),
        margin=0.1,
        threads=1,
        cores=(1,),
        machine="a processor",
        runs=(Run(seed=0, pairs=pairs, decision=decide(pairs, 0.1, 0)),),
        signals=signals,
    )


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
    assert (found.verdict, speed.verdict, speed.status) == (verdict, verdict, status)
    assert (signals.status, signals.message) == ("skipped", FORMATS.reason)
    assert ("pairs would decide" in speed.message) == (verdict == "INCONCLUSIVE")
    assert found.title == "out/new.tflite against out/old.tflite, a processor"
    measures = {metric.measure for metric in found.metrics}
    assert measures == (set() if verdict == "INVALID" else {"latency", "latency ratio"})


def test_signals_are_rows_and_measures() -> None:
    found = sheet(gate((1.0,) * 5, signals=SIGNALS), "fail")
    assert found.verdict == "FAIL"
    assert [(row.check, row.status, row.verdict) for row in found.rows] == [
        ("latency", "passed", "PASS"),
        ("bytes of tensors", "passed", "better"),
        ("operators", "failed", "worse"),
        ("share of INT8 multiply-accumulates", "passed", "same"),
        ("peak arena bytes", "skipped", "not compared"),
    ]
    assert found.rows[1].message == "10 became 9"
    assert found.rows[2].message == "+1 ADD"
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
    assert found.verdict == "FAIL"
    assert found.rows[0].status == "error"
    assert not {metric.measure for metric in found.metrics} & {"latency", "latency ratio"}
