"""The accuracy gate: every network of a candidate against what it must not fall behind, on the same images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from rexnet_export.apps.gate.accuracy.answers import Comparison, answered
from rexnet_export.apps.gate.accuracy.decision import Policy
from rexnet_export.apps.gate.accuracy.evidence import Evidence, require_same_images, runtime
from rexnet_export.apps.gate.accuracy.predictions import Predictions
from rexnet_export.apps.gate.accuracy.result import TORCH, Check, CheckName, GateResult
from rexnet_export.apps.gate.accuracy.words import subject
from rexnet_export.apps.gate.baseline.baseline import FLOAT, Baseline
from rexnet_export.apps.gate.words import Subject, named
from rexnet_export.apps.shared.text import counted
from rexnet_export.pipeline.core.errors import BaselineError, UsageError
from rexnet_export.pipeline.core.meant import did_you_mean

EXPORT = "export it there too, or leave it out with --target"
UPDATE = "accept it with rexnet-gate update"

type Stored = Mapping[str, Baseline]


def check(
    candidate: Evidence,
    baseline: Evidence | Stored | None,
    policy: Policy,
    *,
    float_policy: Policy | None = None,
    float_baseline: bool = False,
    targets: Sequence[str] = (),
    devices: Sequence[tuple[Comparison, str]] = (),
) -> GateResult:
    """Ask every question that the chosen baselines allow; `targets` limits the artifacts (default: all).

    The chain inside the candidate is always checked; `float_policy` (default: `policy`) is for comparisons of INT8
    with float. Images or classes that differ raise `BaselineError`: then no question can be asked. `devices` are
    questions of `gate_devices.device_question`.
    """
    chosen = _chosen(candidate, baseline, targets)
    asked = list(_chain(candidate, chosen))
    if float_baseline:
        asked += [_against_reference(candidate, target) for target in chosen]
    asked += [question for question, _ in devices]
    notes = [note for _, note in devices]
    if isinstance(baseline, Evidence):
        asked += _against_evidence(candidate, baseline, chosen)
        notes += _processors(candidate, baseline.source, baseline.processor)
    elif baseline is not None:
        asked += _against_stored(candidate, baseline, chosen)
        for stored in baseline.values():
            notes += _processors(candidate, str(stored.path), stored.processor)
    checks = tuple(answered(candidate, asked, policy, float_policy or policy))
    return GateResult(
        candidate=candidate.source,
        baseline=_source(baseline),
        model=candidate.model,
        precision=candidate.precision,
        images={
            "name": candidate.images.name,
            "sha256": candidate.images.sha256,
            "n": len(candidate.ids),
        },
        policy=policy,
        float_policy=float_policy or policy,
        checks=checks,
        notes=(*_on_fewer(checks, len(candidate.ids)), *notes),
    )


def _chosen(candidate: Evidence, baseline: Evidence | Stored | None, targets: Sequence[str]) -> list[str]:
    """The artifacts to gate; one that only the baseline knows is among them, so that it cannot vanish unseen."""
    there = dict.fromkeys([*candidate.targets, *candidate.not_run])
    before = baseline.targets if isinstance(baseline, Evidence) else baseline or {}
    known = there | dict.fromkeys(before)
    if strangers := [target for target in targets if target not in known]:
        gone = [target for target in known if target not in there]
        also = f"{_source(baseline)} also {', '.join(gone)}" if gone else ""
        has = f"--target {strangers[0]}: {candidate.source} has {', '.join(there)}"
        raise UsageError("; ".join(filter(None, (has, also, did_you_mean(strangers[0], known)))))
    return [target for target in known if not targets or target in targets]


def _chain(candidate: Evidence, chosen: Sequence[str]) -> Iterator[Comparison]:
    """Each network against the one it was made from; what has the float network's own weights must choose as it."""
    networks = {TORCH: candidate.reference, **candidate.stages}
    for (before, reference), (name, stage) in pairwise(networks.items()):
        kind: CheckName = "agreement" if stage.float_of else "chain"
        yield Comparison(target=name, name=kind, reference_name=before, candidate=stage, reference=reference)
    last = list(networks)[-1]
    for target in chosen:
        if (made := candidate.targets.get(target)) is None:
            continue
        if made.float_of:
            yield _comparison(candidate, target, "agreement", candidate.reference, TORCH)
        else:
            yield Comparison(target=target, name="chain", reference_name=last, candidate=made, reference=networks[last])


def _against_reference(candidate: Evidence, target: str) -> Comparison:
    return _comparison(candidate, target, "float", candidate.reference, TORCH)


def _against_evidence(candidate: Evidence, baseline: Evidence, chosen: Sequence[str]) -> list[Comparison]:
    _require_same_kind(candidate, baseline.source, baseline.model, baseline.precision)
    require_same_images(candidate.images, baseline.images, _said(candidate, baseline.source))
    torch = Comparison(
        target=TORCH,
        name="baseline",
        reference_name=baseline.source,
        candidate=candidate.reference,
        reference=baseline.reference,
    )
    stages = [
        _compared(name, "baseline", stage, baseline.stages[name], baseline.source)
        for name, stage in candidate.stages.items()
        if name in baseline.stages
    ]
    artifacts = [
        _comparison(candidate, target, "baseline", baseline.targets.get(target), baseline.source, EXPORT)
        for target in chosen
    ]
    return [torch, *stages, *artifacts]


def _against_stored(candidate: Evidence, baselines: Stored, chosen: Sequence[str]) -> list[Comparison]:
    asked: list[Comparison] = []
    float_asked = False
    for target in chosen:
        stored = baselines.get(target)
        if stored is None:
            asked.append(_comparison(candidate, target, "baseline", None, _folder(baselines), UPDATE))
            continue
        path = str(stored.path)
        _require_same_kind(candidate, path, stored.model, stored.precision)
        require_same_images(candidate.images, stored.images, _said(candidate, path))
        if not float_asked:
            float_asked = True
            asked.append(
                Comparison(
                    target=TORCH,
                    name="baseline",
                    reference_name=f"{path} ({FLOAT})",
                    candidate=candidate.reference,
                    reference=stored.float_anchor,
                )
            )
        asked.append(_comparison(candidate, target, "baseline", stored.current, path))
        names: dict[str, CheckName] = {"float": "anchor-float", "release": "anchor-release"}
        asked += [
            _comparison(candidate, target, names[anchor], network, f"{path} ({anchor})")
            for anchor, network in stored.anchors.items()
        ]
    return asked


def _comparison(
    candidate: Evidence, target: str, name: CheckName, reference: Predictions | None, said: str, remedy: str = ""
) -> Comparison:
    """Ask about an artifact, or say why that is not possible; `remedy` is for a `reference` that is missing."""
    made = candidate.targets.get(target)
    reason = ""
    if made is None:
        reason, remedy = f"{candidate.source} has no {target}, but {said} has", "export it again"
        if target in candidate.not_run:
            reason, remedy = candidate.not_run[target], ""
    elif reference is None:
        reason = f"{said} has no {target}, but {candidate.source} has"
    if made is None or reference is None:
        return Comparison(target=target, name=name, reference_name=said, reason=reason, remedy=remedy)
    # The float network ran in torch: that it is another runtime is the point.
    if name in {"agreement", "float", "anchor-float"}:
        return Comparison(target=target, name=name, reference_name=said, candidate=made, reference=reference)
    return _compared(target, name, made, reference, said)


def _compared(target: str, name: CheckName, made: Predictions, reference: Predictions, said: str) -> Comparison:
    """The same network then and now, which must have run on the same runtime: other kernels round otherwise."""
    if runtime(made.executed_by) != runtime(reference.executed_by):
        anchored = " --release" if name == "anchor-release" else ""
        raise BaselineError(
            f"{target} ran on {made.executed_by}, in {said} on {reference.executed_by}; run both on the same, or "
            f"accept the new one with rexnet-gate update{anchored}"
        )
    return Comparison(target=target, name=name, reference_name=said, candidate=made, reference=reference)


def _require_same_kind(candidate: Evidence, said: str, model: str, precision: str) -> None:
    if (candidate.model, candidate.precision) != (model, precision):
        raise BaselineError(
            f"{candidate.source} is {candidate.model} in {candidate.precision}, {said} is {model} in {precision}; "
            "compare the same"
        )


def _said(candidate: Evidence, other: str) -> str:
    return f"{candidate.source} and {other} cannot be compared"


def _source(baseline: Evidence | Stored | None) -> str | None:
    if isinstance(baseline, Evidence):
        return baseline.source
    return None if baseline is None else _folder(baseline)


def _folder(baselines: Stored) -> str:
    return str(next(iter(baselines.values())).path.parent)


def _on_fewer(checks: Sequence[Check], images: int) -> Iterator[str]:
    """A line for the checks on fewer images than the export has; a device's say themselves on which they are."""
    fewer: dict[int, list[Subject]] = {}
    for check in checks:
        if check.name != "device" and check.images is not None and check.images < images:
            fewer.setdefault(check.images, []).append(subject(check))
    for n, subjects in fewer.items():
        yield (
            f"{len(subjects)} of {counted(len(checks), 'check')} {'are' if len(subjects) > 1 else 'is'} on {n:,} of "
            f"{images:,} images (export with --proof full for all): {named(subjects)}"
        )


def _processors(candidate: Evidence, said: str, processor: str) -> Iterator[str]:
    if processor and candidate.processor and processor != candidate.processor:
        yield f"{said} ran on {processor}, the candidate on {candidate.processor}: INT8 kernels may round otherwise"
