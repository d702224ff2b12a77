"""What the accuracy gate says of its checks, and of all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rexnet_export.apps.gate.accuracy.result import Check, CheckOutcome, GateResult
from rexnet_export.apps.gate.words import UNDECIDED, OnInconclusive, Status, Words

VERDICTS: Mapping[CheckOutcome, tuple[str, Status | None]] = {
    "pass": ("PASS", "passed"),
    "pass_with_note": ("PASS, note", "noted"),
    "fail_certain": ("FAIL, certain", "failed"),
    "fail": ("FAIL", "failed"),
    "inconclusive": ("INCONCLUSIVE", None),  # what that is, the policy says
    "not_compared": ("NOT COMPARED", "error"),
}


def check_words(check: Check, on_inconclusive: OnInconclusive) -> Words:
    """Of one check."""
    verdict, status = VERDICTS[check.outcome]
    return Words(
        verdict=verdict,
        status=status or UNDECIDED[on_inconclusive],
        reason=check.message,
        next_step=check.next_step or "",
    )


def result_words(result: GateResult) -> Words:
    """What it all comes to: where the chain broke, and the reasons, each once with all that it is said of."""
    verdict, status = VERDICTS[result.overall]
    broken = f", broken at {result.broken_stage}" if result.broken_stage else ""
    match result.overall:
        case "fail":
            reason = _grouped(check for check in result.checks if check.failed)
        case "not_compared":
            missing = [_sentence(check) for check in result.checks if check.outcome == "not_compared"]
            reason = "; ".join(dict.fromkeys(missing)) or f"{result.candidate} has nothing to compare"
        case _:
            reason = _grouped(check for check in result.checks if check.outcome != "pass") or _passed(result)
    return Words(verdict=f"{verdict}{broken}", status=status or UNDECIDED[result.policy.on_inconclusive], reason=reason)


def _passed(result: GateResult) -> str:
    checks = len(result.checks)
    return f"{checks} check{'s' if checks > 1 else ''} on {result.images['n']:,} images"


def _grouped(checks: Iterable[Check]) -> str:
    of: dict[str, list[str]] = {}
    for check in checks:
        of.setdefault(_sentence(check), []).append(f"{check.target} {check.name}")
    return "; ".join(f"{', '.join(names)}: {sentence}" for sentence, names in of.items())


def _sentence(check: Check) -> str:
    return check_words(check, "fail").sentence
