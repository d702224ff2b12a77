"""What the gate found: one check for each network and question, and what they come to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from rexnet_export.apps.gate.accuracy.decision import FAILURES, Numbers, Outcome, Policy, RatioVerdict
from rexnet_export.pipeline.core.json import now, plain

SCHEMA_VERSION = 1
TORCH = "torch"

type CheckName = Literal["baseline", "anchor-float", "anchor-release", "float", "agreement", "chain", "ratio", "device"]
type CheckOutcome = Outcome | Literal["not_compared"]
type Overall = Literal["pass", "fail", "inconclusive", "not_compared"]


@dataclass(frozen=True, kw_only=True)
class Network:
    """One side of a comparison."""

    name: str
    file: str
    sha256: str
    executed_by: str


@dataclass(frozen=True, kw_only=True)
class Flip:
    """An image for which candidate and reference chose different classes; probabilities where known."""

    id: str
    label: str
    reference: str
    candidate: str
    reference_confidence: float | None
    candidate_confidence: float | None


@dataclass(frozen=True, kw_only=True)
class Check:
    """One question about one network, an artifact (`ort x86`) or a stage (`torch`, `float`, `equalized`, `quantized`).

    What was not compared has neither numbers nor flips; its message is the reason.
    """

    target: str
    name: CheckName
    outcome: CheckOutcome
    message: str
    candidate: Network | None = None
    reference: Network | None = None
    numbers: Numbers | None = None
    ratio: RatioVerdict | None = None
    flips: tuple[Flip, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether it found a regression."""
        return self.outcome in FAILURES


@dataclass(frozen=True, kw_only=True)
class GateResult:
    """All checks of one candidate; `created` is fixed with the record."""

    candidate: str
    baseline: str | None
    model: str
    precision: str
    images: Mapping[str, Any]
    policy: Policy
    float_policy: Policy
    checks: tuple[Check, ...]
    notes: tuple[str, ...] = ()
    created: str = field(default_factory=now)

    @property
    def overall(self) -> Overall:
        """A regression outweighs what could not be compared, and that outweighs too few images."""
        if any(check.failed for check in self.checks):
            return "fail"
        outcomes = {check.outcome for check in self.checks}
        if not outcomes or "not_compared" in outcomes:
            return "not_compared"
        return "inconclusive" if "inconclusive" in outcomes else "pass"

    @property
    def exit_code(self) -> int:
        """What the command returns."""
        inconclusive = 3 if self.policy.on_inconclusive == "fail" else 0
        return {"pass": 0, "fail": 1, "inconclusive": inconclusive, "not_compared": 6}[self.overall]

    @property
    def broken_stage(self) -> str | None:
        """The first network of the chain that failed a check: what comes after it inherits the fault. Artifacts are
        made from one graph and inherit nothing of each other, so all that failed are named."""
        failed = dict.fromkeys(check.target for check in self.checks if check.failed)
        first = min(map(_place, failed), default=None)
        return ", ".join(target for target in failed if _place(target) == first) or None

    def to_json(self) -> dict[str, Any]:
        """The result by `gate.schema.json`; fractions of 1 throughout."""
        return {
            "schema_version": SCHEMA_VERSION,
            "created": self.created,
            "candidate": self.candidate,
            "baseline": self.baseline,
            "model": self.model,
            "precision": self.precision,
            "images": dict(self.images),
            "policy": plain(self.policy),
            "float_policy": plain(self.float_policy),
            "verdict": self.overall,
            "exit_code": self.exit_code,
            "broken_stage": self.broken_stage,
            "checks": [plain(check) for check in self.checks],
            "notes": list(self.notes),
        }


def _place(target: str) -> int:
    """Position in the chain; artifacts come last, in their own order."""
    order = (TORCH, "float", "equalized", "quantized")
    return order.index(target) if target in order else len(order)
