"""What a person reads of a latency gate, from chosen times."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from latency_samples import SIGNALS, gate
from rich.console import Console

from rexnet_export.apps.gate.latency.gate import LatencyGate
from rexnet_export.apps.gate.latency.terminal_tables import tables


def printed(found: LatencyGate) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(tables(found))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def row(text: str, side: str) -> list[str]:
    """What stands in a side's row of the times."""
    (line,) = (line for line in text.splitlines() if line.split()[:1] == [side] and ".tflite" in line)
    return line.split()[1:]


def test_both_sides_have_their_own_times() -> None:
    text = printed(gate((1.0, 1.05, 1.1)))
    assert row(text, "base") == ["old.tflite", "fake", "2.00", "2.00", "..", "2.00", "-", "36"]
    assert row(text, "candidate") == ["new.tflite", "fake", "2.10", "2.00", "..", "2.20", "-", "36"]
    assert "run 2" not in text
    assert "a processor, 1 thread, pinned to core 1" in text


@pytest.mark.parametrize(("inferences", "base", "candidate"), [(8, "1.00", "9.00"), (7, "-", "-")])
def test_the_tail_is_shown_where_there_are_64_inferences(inferences: int, base: str, candidate: str) -> None:
    found = gate((1.0,) * 2)
    (run,) = found.runs
    pairs = tuple(
        replace(pair, base_ns=(1_000_000,) * inferences, candidate_ns=(9_000_000,) * inferences) for pair in run.pairs
    )
    text = printed(replace(found, runs=(replace(run, pairs=pairs),)))
    assert (row(text, "base")[-2], row(text, "candidate")[-2]) == (base, candidate)


def test_a_second_run_is_told_and_shown_alone() -> None:
    first, last = gate((1.0, 1.2) * 3), gate((1.3,) * 6)
    text = printed(replace(first, runs=(*first.runs, *last.runs)))
    assert "24 pairs, 0 dropped for an unsteady machine; run 2, since run 1 was inconclusive" in text
    assert "2.60 .. 2.60" in text


@pytest.mark.parametrize("ratio", [0.5, 1.3])
def test_the_ratio_stands_with_its_limits(ratio: float) -> None:
    text = printed(gate((ratio, ratio)))
    assert f"candidate / base {ratio:.3f}, one-sided 95 % limits {ratio:.3f} and {ratio:.3f}" in text
    assert f"{2 * ratio:.2f}" in text  # milliseconds
    assert "8 pairs, 0 dropped for an unsteady machine" in text


def test_too_few_steady_pairs_have_no_ratio_but_a_reason() -> None:
    text = printed(gate((1.0,), kernel_after=200))
    assert "candidate / base" not in text
    assert "the machine is throttled or busy" in text
    assert "4 dropped for an unsteady machine" in text


def test_every_signal_says_what_became_of_it() -> None:
    text = printed(gate((1.0, 1.0), signals=SIGNALS))
    for name, change in (("bytes of tensors", "better"), ("operators", "worse"), ("peak arena bytes", "not compared")):
        (line,) = (line for line in text.splitlines() if line.startswith(name))
        assert change in line
    assert "+1 ADD" in text


def test_signals_that_could_not_be_compared_say_why() -> None:
    assert "signals without noise not compared: a .tflite and a .ort file" in printed(gate((1.0,)))
