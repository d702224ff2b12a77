"""What the latency gate says of the speed, of each signal, and of both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from rexnet_export.apps.gate.latency.decision import Verdict
from rexnet_export.apps.gate.latency.gate import LatencyGate
from rexnet_export.apps.gate.words import UNDECIDED, OnInconclusive, Status, Words
from rexnet_export.apps.shared.text import shown
from rexnet_export.pipeline.artifact.structure_diff import Change, Comparison, Signal
from rexnet_export.pipeline.core.records import Measurement

STATUSES: Mapping[Verdict, Status] = {"PASS": "passed", "FAIL": "failed", "INVALID": "error"}
CHANGES: Mapping[Change, Status] = {"same": "passed", "better": "passed", "worse": "failed", "not compared": "skipped"}


def speed_words(found: LatencyGate, on_inconclusive: OnInconclusive) -> Words:
    """Of the speed alone."""
    decision = found.decision
    steps = {"INCONCLUSIVE": found.advice, "INVALID": "run again on a quiet machine"}
    return Words(
        verdict=decision.verdict,
        status=STATUSES.get(decision.verdict, UNDECIDED[on_inconclusive]),
        reason=decision.reason,
        next_step=steps.get(decision.verdict, ""),
    )


def signal_words(signal: Signal) -> Words:
    """Of what can be counted without noise."""
    became = " became ".join(signal_value(signal, value) for value in (signal.base, signal.candidate))
    return Words(verdict=signal.change, status=CHANGES[signal.change], reason=signal.detail or became)


def result_words(found: LatencyGate, on_inconclusive: OnInconclusive) -> Words:
    """What both come to: a signal that is worse fails whatever the speed is."""
    if found.verdict == "FAIL":
        return Words(verdict="FAIL", status="failed", reason="; ".join(found.failures))
    words = speed_words(found, on_inconclusive)
    same = found.verdict == "PASS" and isinstance(found.signals, Comparison)
    return replace(words, reason=f"{words.reason}; nothing that can be counted got worse") if same else words


def signal_value(signal: Signal, value: Measurement[int | float]) -> str:
    """A count, or a share in percent, as people read it."""
    return shown(value, lambda number: f"{number:.2%}" if "share" in signal.name else f"{number:,}")
