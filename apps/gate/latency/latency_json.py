"""What `rexnet-gate latency --json` prints (`latency_gate.schema.json`)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from rexnet_export.apps.gate.latency.decision import Decision, Pair, Side, Verdict
from rexnet_export.apps.gate.latency.gate import Contestant, LatencyGate, Run, middle, tail
from rexnet_export.pipeline.artifact.structure_diff import Comparison, Signal
from rexnet_export.pipeline.core.json_record import JsonRecord, Sha256
from rexnet_export.pipeline.core.records import AtLeastOne, Count, Measurement, NotMeasured, Text
from rexnet_export.pipeline.machine.environment import Environment, environment


class BoundsJson(JsonRecord):
    """What each percentile is at most, with 99 % confidence, whatever the distribution."""

    p50: Measurement[Count]
    p90: Measurement[Count]
    p99: Measurement[Count]


class SideJson(JsonRecord):
    """One of the two files."""

    artifact: Text
    sha256: Sha256
    bytes: AtLeastOne
    executed_by: Text
    inferences_per_block: AtLeastOne
    block_median_ns: Count
    """The middle one of the last run's block medians."""
    percentile_bounds_ns: BoundsJson


class PairJson(JsonRecord):
    """One block of each, every inference that counts; a pair that is not steady does not count."""

    order: tuple[Side, Side]
    base_ns: Annotated[tuple[Count, ...], Field(min_length=1)]
    candidate_ns: Annotated[tuple[Count, ...], Field(min_length=1)]
    kernel_before_ns: Count
    kernel_after_ns: Count
    steady: bool


class RunJson(JsonRecord):
    """All raw times of one run of pairs, and the decision on them."""

    seed: Count
    decision: Decision
    pairs: Annotated[tuple[PairJson, ...], Field(min_length=1)]


class SignalsJson(JsonRecord):
    """What can be counted from the files alone."""

    verdict: Literal["PASS", "FAIL"]
    signals: Annotated[tuple[Signal, ...], Field(min_length=1)]


class LatencyJson(JsonRecord):
    """Two artifacts timed in turns and compared in what has no noise.

    Times are whole nanoseconds; ratios are candidate over base; what was not measured says why.
    """

    model_config = ConfigDict(title="What `rexnet-gate latency --json` prints")

    schema_version: Literal[1] = 1
    created: Text
    verdict: Verdict
    """FAIL too where a signal is worse; else the latency's."""
    latency_verdict: Verdict
    """Of the last run."""
    margin: Annotated[float, Field(gt=0, lt=1)]
    """0.1: a tenth slower is allowed."""
    threads: AtLeastOne
    pinned_to_cores: Measurement[tuple[Count, ...]]
    base: SideJson
    candidate: SideJson
    runs: Annotated[tuple[RunJson, ...], Field(min_length=1, max_length=2)]
    signals: Measurement[SignalsJson]
    environment: Environment


def latency_json(found: LatencyGate) -> LatencyJson:
    """All that was found."""
    return LatencyJson(
        created=found.created,
        verdict=found.verdict,
        latency_verdict=found.decision.verdict,
        margin=found.margin,
        threads=found.threads,
        pinned_to_cores=found.cores,
        base=_side(found.base, "base", found.runs[-1].pairs),
        candidate=_side(found.candidate, "candidate", found.runs[-1].pairs),
        runs=tuple(_run(run) for run in found.runs),
        signals=_signals(found.signals),
        environment=environment(),
    )


def _side(contestant: Contestant, side: Side, pairs: tuple[Pair, ...]) -> SideJson:
    return SideJson(
        artifact=contestant.file.path.name,
        sha256=contestant.file.sha256,
        bytes=contestant.file.bytes,
        executed_by=contestant.executed_by,
        inferences_per_block=contestant.counted,
        block_median_ns=middle(pairs, side),
        percentile_bounds_ns=BoundsJson(
            p50=tail(pairs, side, 0.5), p90=tail(pairs, side, 0.9), p99=tail(pairs, side, 0.99)
        ),
    )


def _run(run: Run) -> RunJson:
    pairs = tuple(PairJson(**vars(pair), steady=pair.steady) for pair in run.pairs)
    return RunJson(seed=run.seed, decision=run.decision, pairs=pairs)


def _signals(signals: Measurement[Comparison]) -> Measurement[SignalsJson]:
    if isinstance(signals, NotMeasured):
        return signals
    return SignalsJson(verdict=signals.verdict, signals=signals.signals)
