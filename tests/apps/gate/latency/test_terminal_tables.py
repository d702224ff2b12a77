"""What a person reads of a latency gate, from chosen times."""

from __future__ import annotations

import io

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
