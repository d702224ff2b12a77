"""What the gate found: one check for each network and question, and what they come to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypedDict

from pydantic import ConfigDict, Field

from rexnet_export.apps.gate.accuracy.decision import FAILURES, Numbers, Outcome, Policy, RatioVerdict
from rexnet_export.pipeline.core.json import now
from rexnet_export.pipeline.core.json_record import JsonRecord, Sha256
from rexnet_export.pipeline.core.records import AtLeastOne, Fraction, Precision, Text

TORCH = "torch"

type CheckName = Literal["baseline", "anchor-float", "anchor-release", "float", "agreement", "chain", "ratio", "device"]
type CheckOutcome = Outcome | Literal["not_compared"]
type DecidedBy = Literal["statistics", "agreement", "same file", "same weights"]
type Overall = Literal["pass", "fail", "inconclusive", "not_compared"]


@dataclass(frozen=True, kw_only=True)
class Network:
    """One side of a comparison."""

    name: Text
    file: Text
    sha256: Sha256
    executed_by: Text


@dataclass(frozen=True, kw_only=True)
class Flip:
    """An image for which candidate and reference chose different classes; probabilities where known."""

    id: Text
    label: str
    reference: str
    candidate: str
    reference_confidence: Fraction | None
    candidate_confidence: Fraction | None


@dataclass(frozen=True, kw_only=True)
class Check:
    """One question about one network, an artifact (`ort x86`) or a stage (`torch`, `float`, `equalized`, `quantized`).

    What was not compared has neither numbers nor flips. `message` is the reason of the outcome, `next_step` what to do.
    The limits and p in `numbers` mean something where `decided_by` is statistics.
    """

    target: Text
    name: CheckName
    outcome: CheckOutcome
    message: Text
    next_step: Text | None = None
    decided_by: DecidedBy = "statistics"
    candidate: Network | None = None
    reference: Network | None = None
    numbers: Numbers | None = None
    ratio: RatioVerdict | None = None
    flips: tuple[Flip, ...] = ()

    @property
    def images(self) -> int | None:
        """How many images both sides were compared on, where they were."""
        asked = self.numbers or self.ratio
        return asked.images if asked else None

    @property
    def failed(self) -> bool:
        """Whether it found a regression."""
        return self.outcome in FAILURES


class GatedImages(TypedDict):
    """The images of all comparisons: what they are called, the digest of their pixels, how many."""

    name: Text
    sha256: Sha256
    n: AtLeastOne


@dataclass(frozen=True, kw_only=True)
class GateResult:
    """All checks of one candidate; `created` is fixed with the record."""

    candidate: str
    baseline: str | None
    model: str
    precision: Precision
    images: GatedImages
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
    def exit_code(self) -> Literal[0, 1, 3, 6]:
        """What the command returns."""
        match self.overall:
            case "pass":
                return 0
            case "fail":
                return 1
            case "inconclusive":
                return 3 if self.policy.on_inconclusive == "fail" else 0
            case "not_compared":
                return 6

    @property
    def broken_stage(self) -> str | None:
        """The first network of the chain that failed a check: what comes after it inherits the fault. Artifacts are
        made from one graph and inherit nothing of each other, so all that failed are named."""
        failed = dict.fromkeys(check.target for check in self.checks if check.failed)
        first = min(map(_place, failed), default=None)
        return ", ".join(target for target in failed if _place(target) == first) or None

    def to_json(self) -> dict[str, Any]:
        """The result by `gate.schema.json`; fractions of 1 throughout."""
        return GateJson(
            created=self.created,
            candidate=self.candidate,
            baseline=self.baseline,
            model=self.model,
            precision=self.precision,
            images=self.images,
            policy=self.policy,
            float_policy=self.float_policy,
            verdict=self.overall,
            exit_code=self.exit_code,
            broken_stage=self.broken_stage,
            checks=self.checks,
            notes=self.notes,
        ).to_json()


class GateJson(JsonRecord):
    """One check for each network and question.

    All rates, drops and margins are fractions of 1 (0.005 is half a point); limits are one-sided at the policy's alpha.
    """

    model_config = ConfigDict(title="Result of rexnet-gate check")

    schema_version: Literal[1] = 1
    created: Text
    candidate: Text
    baseline: Text | None
    model: Text
    precision: Precision
    images: GatedImages
    policy: Policy
    float_policy: Policy
    """For comparisons of INT8 with float: the checks chain, float and anchor-float."""
    verdict: Overall
    exit_code: Literal[0, 1, 3, 6]
    broken_stage: Text | None
    """The first network of the chain that failed a check; where that is an artifact, all that failed."""
    checks: Annotated[tuple[Check, ...], Field(min_length=1)]
    notes: tuple[Text, ...]


def _place(target: str) -> int:
    """Position in the chain; artifacts come last, in their own order."""
    order = (TORCH, "float", "equalized", "quantized")
    return order.index(target) if target in order else len(order)
