"""Answering the accuracy gate's questions: counting images, deciding, and listing what flipped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rexnet_export.apps.gate.accuracy.decision import Counts, Policy, Verdict, decide_all, decide_ratio
from rexnet_export.apps.gate.accuracy.evidence import Evidence
from rexnet_export.apps.gate.accuracy.predictions import LabelledImages, Predictions, on_both
from rexnet_export.apps.gate.accuracy.result import Check, CheckName, DecidedBy, Flip, Network

LEAST_AGREEMENT = 0.999
FULL = "export with --proof full, or with the --seed of the baseline"
SAME: Mapping[DecidedBy, str] = {
    "same file": "the same file, byte for byte, and the same classes",
    "same weights": "the float32 weights of the same checkpoint, and the same classes",
}
# What a quantized network is compared with a float one for: the price of INT8, not a change of it.
AGAINST_FLOAT: frozenset[CheckName] = frozenset({"float", "anchor-float", "chain"})


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A question to answer: is `candidate` worse than `reference`? `reason` says why it cannot be asked, and `remedy`
    what to do about it.

    It is asked of the images that both were asked about.
    """

    target: str
    name: CheckName
    reference_name: str
    candidate: Predictions | None = None
    reference: Predictions | None = None
    reason: str = ""
    remedy: str = ""


def answered(candidate: Evidence, asked: Sequence[Comparison], policy: Policy, float_policy: Policy) -> Iterator[Check]:
    """Answers in the order of the questions; p values are corrected within the questions of one name.

    What can differ in nothing but rounding and chose the same classes needs no statistics: it passes.
    """
    images = candidate.images
    counted = [(one, _counts(one, images)) for one in (_on_both(one, images) for one in asked)]
    same = {index: why for index, (one, counts) in enumerate(counted) if counts and (why := _same(one, counts))}
    verdicts: dict[int, Verdict] = {}
    for name in dict.fromkeys(one.name for one in asked):
        places = [index for index, (one, counts) in enumerate(counted) if one.name == name and counts is not None]
        for family in ([i for i in places if i not in same], *([i] for i in places if i in same)):
            found = decide_all([c for i in family if (c := counted[i][1])], _policy(name, policy, float_policy))
            verdicts |= dict(zip(family, found, strict=True))
    for index, (one, counts) in enumerate(counted):
        if counts is None:
            yield Check(
                target=one.target,
                name=one.name,
                outcome="not_compared",
                message=one.reason,
                next_step=one.remedy or None,
            )
            continue
        check = _check(one, verdicts[index], candidate)
        yield _as_same(check, same[index]) if index in same else check
        if policy.ratio is not None and one.name in {"baseline", "float"}:
            ratio = _ratio_check(one, counts, policy)
            yield _as_same(ratio, same[index]) if index in same else ratio


def _on_both(one: Comparison, images: LabelledImages) -> Comparison:
    """The question on the images that both networks were asked about; without one, why it cannot be asked."""
    if one.candidate is None or one.reference is None:
        return one
    candidate, reference = on_both(one.candidate, one.reference, len(images.labels))
    if len(candidate.classes):
        return replace(one, candidate=candidate, reference=reference)
    reason = f"{one.reference_name} and the candidate were asked about different images"
    return replace(one, candidate=None, reference=None, reason=reason, remedy=FULL)


def _same(one: Comparison, counts: Counts) -> DecidedBy | None:
    """Why the two are the same network by construction, where they are and answer so; what a device ran is asked."""
    made, reference = one.candidate, one.reference
    if made is None or reference is None or one.name in {"device", "agreement"} or counts.same < counts.images:
        return None
    if made.sha256 == reference.sha256:
        return "same file"
    return "same weights" if made.float_of and made.float_of == reference.float_of else None


def _as_same(check: Check, why: DecidedBy) -> Check:
    return replace(check, outcome="pass", message=SAME[why], next_step=None, decided_by=why)


def _policy(name: CheckName, policy: Policy, float_policy: Policy) -> Policy:
    return float_policy if name in AGAINST_FLOAT else policy


def _counts(one: Comparison, images: LabelledImages) -> Counts | None:
    candidate, reference = one.candidate, one.reference
    if candidate is None or reference is None:
        return None
    labels = images.asked(candidate)
    right, reference_right = candidate.classes == labels, reference.classes == labels
    return Counts(
        both=int((right & reference_right).sum()),
        worse=int((~right & reference_right).sum()),
        better=int((right & ~reference_right).sum()),
        neither=int((~right & ~reference_right).sum()),
        same=int((candidate.classes == reference.classes).sum()),
    )


def _check(one: Comparison, verdict: Verdict, candidate: Evidence) -> Check:
    outcome, message, next_step = verdict.outcome, verdict.message, verdict.next_step
    decided_by: DecidedBy = "statistics"
    if one.name == "agreement":
        decided_by = "agreement"
        count = verdict.numbers.images
        flips = count - round(verdict.numbers.agreement * count)
        outcome = "pass" if flips <= max(1, int((1 - LEAST_AGREEMENT) * count)) else "fail"
        message, next_step = f"chooses as {one.reference_name} on all but {flips:,} of {count:,} images", None
    if next_step and one.name != "device" and one.candidate is not None and one.candidate.places is not None:
        next_step += f"; {FULL}"
    return Check(
        target=one.target,
        name=one.name,
        outcome=outcome,
        message=message,
        next_step=next_step,
        decided_by=decided_by,
        candidate=_network(one.candidate, "candidate"),
        reference=_network(one.reference, one.reference_name),
        numbers=verdict.numbers,
        flips=tuple(_flips(one, candidate)),
    )


def _ratio_check(one: Comparison, counts: Counts, policy: Policy) -> Check:
    assert policy.ratio is not None
    verdict = decide_ratio(counts, policy.ratio, policy.alpha)
    return Check(
        target=one.target,
        name="ratio",
        outcome=verdict.outcome,
        message=verdict.message,
        candidate=_network(one.candidate, "candidate"),
        reference=_network(one.reference, one.reference_name),
        ratio=verdict,
    )


def _network(network: Predictions | None, name: str) -> Network | None:
    if network is None:
        return None
    return Network(name=name, file=network.file, sha256=network.sha256, executed_by=network.executed_by)


def _flips(one: Comparison, candidate: Evidence) -> Iterator[Flip]:
    """Images on which the two choose differently; those that the candidate lost come first."""
    assert one.candidate is not None
    assert one.reference is not None
    places = np.arange(len(candidate.ids)) if one.candidate.places is None else one.candidate.places
    names, labels = candidate.images.class_names, candidate.images.labels[places]
    differing = np.flatnonzero(one.candidate.classes != one.reference.classes)
    lost = one.reference.classes[differing] == labels[differing]
    for index in [int(place) for place in (*differing[lost], *differing[~lost])]:
        yield Flip(
            id=candidate.ids[places[index]],
            label=names[labels[index]],
            reference=names[one.reference.classes[index]],
            candidate=names[one.candidate.classes[index]],
            reference_confidence=_confidence(one.reference, index),
            candidate_confidence=_confidence(one.candidate, index),
        )


def _confidence(network: Predictions, index: int) -> float | None:
    return None if network.confidences is None else round(float(network.confidences[index]), 4)
