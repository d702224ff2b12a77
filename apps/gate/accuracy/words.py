"""What the accuracy gate says of its checks, and of all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

from rexnet_export.apps.gate.accuracy.decision import FAILURES, seen, undecided
from rexnet_export.apps.gate.accuracy.result import Check, CheckOutcome, GateResult
from rexnet_export.apps.gate.words import MOST_NAMED, UNDECIDED, OnInconclusive, Reason, Status, Subject, Words, grouped
from rexnet_export.apps.shared.text import counted

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
    status = status or UNDECIDED[on_inconclusive]
    numbers = check.numbers
    if check.outcome == "inconclusive" and numbers is not None and numbers.more_images is not None:
        missing = (numbers.more_images, numbers.more_images)
        words = Words(
            verdict=verdict, status=status, reason=undecided(numbers), measured=seen(numbers), more_images=missing
        )
        cure = (check.next_step or "").removeprefix(words.more).removeprefix("; ")
        return replace(words, next_step=cure)
    return Words(verdict=verdict, status=status, reason=check.message, next_step=check.next_step or "")


def reasons(result: GateResult) -> tuple[Reason, ...]:
    """Why each check is no plain pass, every reason once."""
    return _reasons(result.checks, result.policy.on_inconclusive)


def _reasons(checks: Iterable[Check], on_inconclusive: OnInconclusive) -> tuple[Reason, ...]:
    return grouped((subject(check), check_words(check, on_inconclusive)) for check in checks)


def result_words(result: GateResult) -> Words:
    """What it all comes to: where the chain broke, and the reasons, each once with what it is said of."""
    verdict, status = VERDICTS[result.overall]
    broken = f", broken at {result.broken_stage}" if result.broken_stage else ""
    return Words(
        verdict=f"{verdict}{broken}", status=status or UNDECIDED[result.policy.on_inconclusive], reason=_why(result)
    )


def _why(result: GateResult) -> str:
    if result.overall == "not_compared":
        missing = [_sentence(check) for check in result.checks if check.outcome == "not_compared"]
        return "; ".join(dict.fromkeys(missing)) or f"{result.candidate} has nothing to compare"
    decisive = {"fail": FAILURES, "inconclusive": {"inconclusive"}, "pass": {"pass_with_note"}}[result.overall]
    found = _reasons((check for check in result.checks if check.outcome in decisive), result.policy.on_inconclusive)
    checks = len(result.checks)
    return "; ".join(f"{_named(reason, checks)}: {reason.words.sentence}" for reason in found) or _passed(result)


def _named(reason: Reason, checks: int) -> str:
    """The subjects, or of many their number: what stands above the verdict's line names all."""
    return reason.names if len(reason.subjects) <= MOST_NAMED else f"{len(reason.subjects)} of {checks} checks"


def _passed(result: GateResult) -> str:
    checks = len(result.checks)
    on = _sizes(result)
    if len(on) == 1:
        (n,) = on
        return f"{counted(checks, 'check')} on {n:,} images"
    parts = [f"{count} on {n:,}{' images' if place == 0 else ''}" for place, (n, count) in enumerate(on.items())]
    return f"{counted(checks, 'check')}, {' and '.join(parts)}"


def images_said(result: GateResult) -> str:
    """How many images the checks are on: `10,000 images`, or `10,000 and 2,000 images`."""
    return f"{' and '.join(f'{n:,}' for n in _sizes(result))} images"


def _sizes(result: GateResult) -> dict[int, int]:
    """By the number of images how many checks are on so many, most images first; without one that was compared, the
    export's."""
    found = Counter(check.images for check in result.checks if check.images)
    return dict(sorted(found.items(), reverse=True)) or {result.images["n"]: 0}


def subject(check: Check) -> Subject:
    """What a check is called."""
    # Two ratios of one artifact, to its baseline and to the float network, are two questions.
    to = f" to {check.reference.name}" if check.name == "ratio" and check.reference else ""
    return Subject(target=check.target, check=f"{check.name}{to}")


def _sentence(check: Check) -> str:
    return check_words(check, "fail").sentence
