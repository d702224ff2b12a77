"""What `rexnet-gate latency` found, as rows and measures."""

from __future__ import annotations

from collections.abc import Iterator

from rexnet_export.apps.gate.latency.gate import LatencyGate, block_medians, middle
from rexnet_export.apps.gate.latency.interleave import SIDES
from rexnet_export.apps.gate.latency.terminal_tables import MILLISECOND
from rexnet_export.apps.gate.latency.words import result_words, signal_value, signal_words, speed_words
from rexnet_export.apps.gate.outputs.sheet import Better, Metric, Row, Sheet
from rexnet_export.apps.gate.words import OnInconclusive, Words
from rexnet_export.pipeline.artifact.structure_diff import Comparison, Signal
from rexnet_export.pipeline.core.records import NotMeasured

COMMAND = "rexnet-gate latency"


def sheet(found: LatencyGate, on_inconclusive: OnInconclusive) -> Sheet:
    """One row for the speed, and one for each signal without noise."""
    base, candidate = found.base.file.path, found.candidate.file.path
    return Sheet(
        command=COMMAND,
        title=f"{candidate} against {base}, {found.machine}",
        words=result_words(found, on_inconclusive),
        created=found.created,
        rows=(_speed(found, on_inconclusive), *_signals(found)),
        metrics=tuple(_metrics(found)),
    )


def _speed(found: LatencyGate, on_inconclusive: OnInconclusive) -> Row:
    decision, pairs = found.decision, found.runs[-1].pairs
    ratio = decision.ratio
    limits = (
        ("-", "-") if isinstance(ratio, NotMeasured) else (f"{ratio.value:.3f}", f"{ratio.lower:.3f} {ratio.upper:.3f}")
    )
    return Row(
        target=found.candidate.file.path.name,
        check="latency",
        words=speed_words(found, on_inconclusive),
        figures={
            **{f"{side} ms": f"{middle(pairs, side) / MILLISECOND:.2f}" for side in SIDES},
            "ratio": limits[0],
            "limits 95%": limits[1],
            "pairs": f"{decision.pairs}",
            "dropped": f"{decision.dropped}",
        },
    )


def _signals(found: LatencyGate) -> Iterator[Row]:
    target = found.candidate.file.path.name
    if isinstance(found.signals, NotMeasured):
        yield Row(
            target=target,
            check="signals without noise",
            words=Words(verdict="not compared", status="skipped", reason=found.signals.reason),
        )
        return
    for signal in found.signals.signals:
        figures: dict[str, str] = {
            side: signal_value(signal, value)
            for side, value in zip(SIDES, (signal.base, signal.candidate), strict=True)
        }
        yield Row(
            target=target,
            check=signal.name,
            words=signal_words(signal),
            figures=figures,
        )


def _metrics(found: LatencyGate) -> Iterator[Metric]:
    """The candidate's block medians, its ratio to the base, and its signals."""
    subject, pairs, ratio = found.candidate.file.path.name, found.runs[-1].pairs, found.decision.ratio
    if found.decision.verdict != "INVALID":  # a number nobody may trust is not worth following
        medians = [nanoseconds / MILLISECOND for nanoseconds in block_medians(pairs, "candidate")]
        yield Metric(
            subject=subject,
            measure="latency",
            value=middle(pairs, "candidate") / MILLISECOND,
            unit="ms",
            better="smaller",
            lower=min(medians),
            upper=max(medians),
        )
        if not isinstance(ratio, NotMeasured):
            yield Metric(
                subject=subject,
                measure="latency ratio",
                value=ratio.value,
                unit="times the base",
                better="smaller",
                lower=ratio.lower,
                upper=ratio.upper,
                allowed=1 + found.margin,
            )
    if isinstance(found.signals, Comparison):
        yield from (
            _metric(subject, signal)
            for signal in found.signals.signals
            if not isinstance(signal.candidate, NotMeasured)
        )


def _metric(subject: str, signal: Signal) -> Metric:
    assert not isinstance(signal.candidate, NotMeasured)
    share = "share" in signal.name
    better: Better = "bigger" if share else "smaller"
    unit = "fraction" if share else "bytes" if "bytes" in signal.name else "count"
    return Metric(subject=subject, measure=signal.name, value=signal.candidate, unit=unit, better=better)
