"""What `rexnet-gate latency` found, as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from rexnet_export.apps.gate.latency.decision import Side
from rexnet_export.apps.gate.latency.gate import Contestant, LatencyGate, block_medians, middle, tail
from rexnet_export.apps.gate.latency.interleave import SIDES
from rexnet_export.apps.gate.latency.words import signal_value, signal_words
from rexnet_export.apps.shared.terminal_table import titled
from rexnet_export.apps.shared.text import counted, shown
from rexnet_export.pipeline.artifact.structure_diff import Comparison
from rexnet_export.pipeline.core.records import Measurement, NotMeasured

MILLISECOND = 1e6  # nanoseconds


def tables(found: LatencyGate) -> RenderableType:
    """Both sides' times, and every signal."""
    return Group(_times(found), *_lines(found), Text(), *_signals(found.signals))


def _times(found: LatencyGate) -> Table:
    grid = _grid("latency of one image", "", "file", "run by", "median ms", "blocks ms", "P90 ms at most", "n")
    pairs = found.runs[-1].pairs
    for side in SIDES:
        contestant, medians = _contestant(found, side), block_medians(pairs, side)
        grid.add_row(
            side,
            contestant.file.path.name,
            contestant.executed_by,
            _ms(middle(pairs, side)),
            f"{_ms(min(medians))} .. {_ms(max(medians))}",
            shown(tail(pairs, side, 0.9), _ms),
            f"{contestant.counted * len(pairs):,}",
        )
    return grid


def _lines(found: LatencyGate) -> Iterator[Text]:
    decision = found.decision
    yield Text(f"\nspeed: {decision.reason}")
    if not isinstance(decision.ratio, NotMeasured):
        ratio = decision.ratio
        yield Text(
            f"candidate / base {ratio.value:.3f}, one-sided 95 % limits {ratio.lower:.3f} and {ratio.upper:.3f} "
            f"({ratio.method})"
        )
    runs = "; run 2, since run 1 was inconclusive" if len(found.runs) > 1 else ""
    yield Text(f"{decision.pairs} pairs, {decision.dropped} dropped for an unsteady machine{runs}")
    pinned = found.cores
    where = (
        f"not pinned: {pinned.reason}"
        if isinstance(pinned, NotMeasured)
        else f"pinned to core {', '.join(map(str, pinned))}"
    )
    yield Text(f"{found.machine}, {counted(found.threads, 'thread')}, {where}")


def _signals(signals: Measurement[Comparison]) -> Iterator[RenderableType]:
    if isinstance(signals, NotMeasured):
        yield Text(f"signals without noise not compared: {signals.reason}", style="dim")
        return
    grid = _grid("signals without noise", "", "base", "candidate", "change", "")
    for signal in signals.signals:
        words = signal_words(signal)
        grid.add_row(
            signal.name,
            signal_value(signal, signal.base),
            signal_value(signal, signal.candidate),
            Text(words.verdict, style=words.style),
            signal.detail,
        )
    yield grid


def _grid(title: str, *columns: str) -> Table:
    grid = titled(title)
    for column in columns:
        grid.add_column(column, overflow="fold")
    return grid


def _contestant(found: LatencyGate, side: Side) -> Contestant:
    return found.base if side == "base" else found.candidate


def _ms(nanoseconds: int) -> str:
    return f"{nanoseconds / MILLISECOND:.2f}"
