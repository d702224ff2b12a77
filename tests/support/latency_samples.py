"""Latency gates with chosen times and signals."""

from __future__ import annotations

from pathlib import Path

from rexnet_export.apps.gate.latency.decision import Pair, decide
from rexnet_export.apps.gate.latency.gate import Contestant, LatencyGate, Run
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
