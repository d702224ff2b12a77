"""What `--json` prints of chosen times: the last run's, and limits of the percentiles."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from latency_samples import SIGNALS, gate

from rexnet_export.apps.gate.latency.decision import Pair
from rexnet_export.apps.gate.latency.gate import LatencyGate
from rexnet_export.apps.gate.latency.latency_json import latency_json


def drawn(first: int) -> tuple[Pair, ...]:
    """Eight pairs of 100 inferences, which together take each of 800 nanoseconds from `first` on, in random order."""
    times = np.random.default_rng(0).permutation(np.arange(first, first + 800)).reshape(8, 100)
    one = gate((1.0,)).runs[0].pairs[0]
    return tuple(
        replace(one, base_ns=tuple(row), candidate_ns=tuple(ns + 10_000 for ns in row)) for row in times.tolist()
    )


def of(*firsts: int) -> LatencyGate:
    """One run for each."""
    found = gate((1.0,) * 5)
    return replace(found, runs=tuple(replace(found.runs[0], pairs=drawn(first)) for first in firsts))


def test_the_last_runs_times_are_the_sides_own() -> None:
    found = latency_json(of(1_000, 5_000))
    assert found.schema_version == 1
    assert (found.base.block_median_ns, found.candidate.block_median_ns) == (5_389, 15_389)
    for side, first in ((found.base, 5_000), (found.candidate, 15_000)):
        bounds = side.percentile_bounds_ns
        assert (bounds.p50, bounds.p90, bounds.p99) == (first + 434, first + 740, first + 799)
    assert [len(run.pairs) for run in found.runs] == [8, 8]


def test_signals_are_there_where_they_could_be_compared() -> None:
    found = latency_json(gate((1.0,) * 5, signals=SIGNALS)).to_json()
    assert found["signals"]["verdict"] == "FAIL"
    assert len(found["signals"]["signals"]) == 4
    assert "not_measured" in latency_json(gate((1.0,) * 5)).to_json()["signals"]
