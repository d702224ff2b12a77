"""Results of accuracy gates that never ran: checks with chosen counts, flips and ratios."""

from __future__ import annotations

from dataclasses import replace

from rexnet_export.apps.gate.accuracy.decision import Counts, Policy, decide, decide_ratio
from rexnet_export.apps.gate.accuracy.result import Check, CheckName, Flip, GateResult, Network

POLICY = Policy(margin=0.005, tolerance=0.0025)
COUNTS = Counts(both=900, worse=30, better=20, neither=50, same=940)


def flips(count: int) -> tuple[Flip, ...]:
    """Images 0, 1, ... of a cat that the candidate takes for a dog; the first without probabilities."""
    one = Flip(
        id="0.png",
        label="cat",
        reference="cat",
        candidate="dog",
        reference_confidence=None,
        candidate_confidence=None,
    )
    known = replace(one, reference_confidence=0.912, candidate_confidence=0.5)
    return tuple(replace(known if place else one, id=f"{place}.png") for place in range(count))


def counted(target: str, name: CheckName, flipped: int = 0) -> Check:
    """A check of `COUNTS`, which fails."""
    verdict = decide(COUNTS, POLICY)
    side = Network(name="main", file="a.ort", sha256="a" * 64, executed_by="ONNX Runtime 1.26.0")
    return Check(
        target=target,
        name=name,
        outcome="fail",
        message="worse",
        candidate=replace(side, name="candidate"),
        reference=side,
        decided_by="agreement" if name == "agreement" else "statistics",
        numbers=verdict.numbers,
        flips=flips(flipped),
    )


def ratio_check(reference: str = "torch") -> Check:
    """A check of the ratio of `COUNTS` to a reference."""
    verdict = decide_ratio(COUNTS, 0.99)
    side = Network(name=reference, file="a.ort", sha256="a" * 64, executed_by="x")
    return Check(
        target="ort",
        name="ratio",
        outcome=verdict.outcome,
        message="of the reference's",
        candidate=side,
        reference=side,
        ratio=verdict,
    )


def missing(target: str) -> Check:
    """A check that could not be made."""
    return Check(
        target=target, name="baseline", outcome="not_compared", message=f"no {target}", next_step="export it again"
    )


def result(*checks: Check, baseline: str | None = "baselines") -> GateResult:
    """A gate on 10,000 images that found these."""
    return GateResult(
        candidate="out",
        baseline=baseline,
        model="rexnet_100",
        precision="int8",
        images={"name": "photos", "sha256": "0" * 64, "n": 10_000},
        policy=POLICY,
        float_policy=POLICY,
        checks=checks,
        notes=("other kernels",),
    )
