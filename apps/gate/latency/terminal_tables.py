"""What `rexnet-gate latency` found, as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.text import Text

from rexnet_export.apps.gate.latency.decision import Side
from rexnet_export.apps.gate.latency.gate import Contestant, LatencyGate, block_medians, middle, tail
from rexnet_export.apps.gate.latency.interleave import SIDES
from rexnet_export.apps.gate.latency.words import signal_value, signal_words
from rexnet_export.apps.shared.terminal_table import Cell, Column, FittedTable, Paragraph
from rexnet_export.apps.shared.text import counted, shown
from rexnet_export.pipeline.artifact.structure_diff import Comparison, Signal
from rexnet_export.pipeline.core.records import Measurement, NotMeasured

MILLISECOND = 1e6  # nanoseconds


def tables(found: LatencyGate) -> RenderableType:
    """Both sides' times, and every signal."""
    return Group(_times(found), *_lines(found), Paragraph(""), *_signals(found.signals))


def _times(found: LatencyGate) -> FittedTable:
    columns = (
        Column(title="", left=True),
        Column(title="file", name=True),
        Column(title="run by", sentence=True),
        Column(title="median ms"),
        Column(title="blocks ms"),
        Column(title="P90 ms at most"),
        Column(title="n"),
    )
    return FittedTable("latency of one image", columns, [_side(found, side) for side in SIDES])


def _side(found: LatencyGate, side: Side) -> list[str]:
    pairs = found.runs[-1].pairs
    contestant, medians = _contestant(found, side), block_medians(pairs, side)
    return [
        side,
        contestant.file.path.name,
        contestant.executed_by,
        _ms(middle(pairs, side)),
        f"{_ms(min(medians))} .. {_ms(max(medians))}",
        shown(tail(pairs, side, 0.9), _ms),
        f"{contestant.counted * len(pairs):,}",
    ]


def _lines(found: LatencyGate) -> Iterator[Paragraph]:
    decision = found.decision
    yield Paragraph("")
    yield Paragraph(f"speed: {decision.reason}")
    if not isinstance(decision.ratio, NotMeasured):
        ratio = decision.ratio
        yield Paragraph(
            f"candidate / base {ratio.value:.3f}, one-sided 95 % limits {ratio.lower:.3f} and {ratio.upper:.3f} "
            f"({ratio.method})"
        )
    runs = "; run 2, since run 1 was inconclusive" if len(found.runs) > 1 else ""
    yield Paragraph(f"{decision.pairs} pairs, {decision.dropped} dropped for an unsteady machine{runs}")
    pinned = found.cores
    where = (
        f"not pinned: {pinned.reason}"
        if isinstance(pinned, NotMeasured)
        else f"pinned to core {', '.join(map(str, pinned))}"
    )
    yield Paragraph(f"{found.machine}, {counted(found.threads, 'thread')}, {where}")


def _signals(signals: Measurement[Comparison]) -> Iterator[RenderableType]:
    if isinstance(signals, NotMeasured):
        yield Paragraph(f"signals without noise not compared: {signals.reason}", "dim")
        return
    columns = (
        Column(title="signal", left=True),
        Column(title="base"),
        Column(title="candidate"),
        Column(title="change", left=True),
        Column(title="what changed", sentence=True),
    )
    yield FittedTable("signals without noise", columns, [_signal(signal) for signal in signals.signals])


def _signal(signal: Signal) -> list[Cell]:
    words = signal_words(signal)
    values = [signal_value(signal, value) for value in (signal.base, signal.candidate)]
    return [signal.name, *values, Text(words.verdict, style=words.style), signal.detail]


def _contestant(found: LatencyGate, side: Side) -> Contestant:
    return found.base if side == "base" else found.candidate


def _ms(nanoseconds: int) -> str:
    return f"{nanoseconds / MILLISECOND:.2f}"
