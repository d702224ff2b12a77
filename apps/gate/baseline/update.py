"""Accepting new baselines: never without a reason, and worse ones only when asked to."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rexnet_export.apps.gate.accuracy.evidence import Evidence, runtime
from rexnet_export.apps.gate.accuracy.predictions import on_both
from rexnet_export.apps.gate.baseline.baseline import (
    CURRENT,
    PENDING,
    Baseline,
    arrays,
    arrays_file,
    baseline_file,
    content_json,
    correct,
    digest,
    entry_digest,
    network_json,
    pending,
    read_baseline,
)
from rexnet_export.pipeline.core.errors import BaselineError, GateFailed, UsageError
from rexnet_export.pipeline.core.files import writing_file
from rexnet_export.pipeline.core.json import now
from rexnet_export.pipeline.core.records import write_whole
from rexnet_export.pipeline.machine.locks import held


@dataclass(frozen=True, kw_only=True)
class Change:
    """Why baselines are replaced, and from what: a commit, a run of CI, where known.

    `release` moves the anchors here too; `accept_regression` allows a lower top-1.
    """

    reason: str
    commit: str | None
    run: str | None = None
    release: bool = False
    accept_regression: bool = False

    def __post_init__(self) -> None:
        """A reason is a text."""
        if not self.reason.strip():
            raise UsageError("--reason is empty; say in a sentence why the baseline changes")


@dataclass(frozen=True, kw_only=True)
class Updated:
    """What became of one target's baseline; top-1 as fractions, `old_top1` None for a new one."""

    path: Path
    target: str
    changed: bool
    old_top1: float | None
    new_top1: float


def update(evidence: Evidence, folder: Path, targets: tuple[str, ...], change: Change) -> list[Updated]:
    """Write `folder/MODEL/TARGET.json` and its arrays for each target: for all of them, or for none."""
    place = folder / evidence.model
    found = {target: baseline_file(place, target) for target in targets}
    before = {target: _read(path) for target, path in found.items()}
    after = {target: _next(evidence, target, path, before[target], change) for target, path in found.items()}
    worse = [name for name in targets if _is_worse(before[name], after[name])]
    if worse and not change.accept_regression:
        said = ", ".join(f"{name} {_top1(before[name])} -> {_top1(after[name])}" for name in worse)
        raise GateFailed(f"the new baseline is worse ({said}); if that is meant, give --accept-regression")
    with writing_file(str(place)):
        place.mkdir(parents=True, exist_ok=True)
        with held(place):
            if {target: _digest(_read(path)) for target, path in found.items()} != {
                target: _digest(old) for target, old in before.items()
            }:
                raise BaselineError(f"{place} was changed by another update meanwhile; look at it, then run again")
            return _write([_proposed(before[target], after[target], change) for target in targets], place)


def _read(path: Path) -> Baseline | None:
    return read_baseline(path) if path.is_file() or path.name in pending(path.parent) else None


def _digest(baseline: Baseline | None) -> str | None:
    return baseline.history[-1]["digest"] if baseline else None


def _next(evidence: Evidence, target: str, path: Path, old: Baseline | None, change: Change) -> Baseline:
    kept = None if change.release else old
    if kept is not None:
        _require_same_anchors(kept, evidence, target)
    current = evidence.targets[target]
    return Baseline(
        path=path,
        model=evidence.model,
        target=target,
        precision=evidence.precision,
        processor=evidence.processor,
        images=evidence.images,
        current=current,
        float_anchor=evidence.reference if kept is None else kept.float_anchor,
        release_anchor=current if change.release else kept.release_anchor if kept else None,
        history=() if old is None else old.history,
    )


def _require_same_anchors(kept: Baseline, evidence: Evidence, target: str) -> None:
    """Anchors hold class numbers: under other images, labels, precisions or runtimes they would mean something else."""
    ours, theirs, release = evidence.images, kept.images, kept.release_anchor
    reason = ""
    if (ours.sha256, ours.class_names) != (theirs.sha256, theirs.class_names):
        reason = "was taken on other images or classes"
    elif not np.array_equal(ours.labels, theirs.labels):
        reason = "was taken with other labels"
    elif kept.precision != evidence.precision:
        reason = f"is of {kept.precision}, not {evidence.precision}"
    elif release is not None and runtime(release.executed_by) != runtime(evidence.targets[target].executed_by):
        reason = f"has a release that ran on {release.executed_by}"
    if reason:
        raise UsageError(f"{kept.path} {reason}, so its anchors say nothing about this; move them too with --release")


def _is_worse(old: Baseline | None, new: Baseline) -> bool:
    """By top-1 on the images that both were asked about, or each on its own: small drops must not creep in, so there
    is no tolerance."""
    if old is None:
        return False
    if old.images.sha256 == new.images.sha256:
        before, after = on_both(old.current, new.current, len(new.images.labels))
        if len(before.classes):
            old, new = replace(old, current=before), replace(new, current=after)
    return _right(new) < _right(old)


def _right(baseline: Baseline) -> float:
    return correct(baseline.current, baseline.images) / len(baseline.current.classes)


def _top1(baseline: Baseline | None) -> str:
    return "" if baseline is None else f"{_right(baseline):.2%}"


@dataclass(frozen=True, kw_only=True)
class _Proposed:
    """One target's new baseline, and what to say of it; no record where nothing changes."""

    updated: Updated
    arrays: bytes = b""
    record: Mapping[str, Any] | None = None


def _proposed(old: Baseline | None, new: Baseline, change: Change) -> _Proposed:
    updated = Updated(
        path=new.path,
        target=new.target,
        changed=True,
        old_top1=None if old is None else _right(old),
        new_top1=_right(new),
    )
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays(new))  # type: ignore[arg-type]
    content = content_json(new, hashlib.sha256(stream.getvalue()).hexdigest())
    if new.history and new.history[-1]["content_sha256"] == digest(content):
        return _Proposed(updated=replace(updated, changed=False))
    history = [*new.history, _entry(old, new, content, change)]
    return _Proposed(updated=updated, arrays=stream.getvalue(), record=content | {"history": history})


def _write(proposed: Sequence[_Proposed], folder: Path) -> list[Updated]:
    """Arrays first, which nothing names yet; then all records in one file, which decides; then each in its own.

    What a killed update had decided is done first. The folder is held, so half-written files are a dead one's.
    """
    for half in folder.glob(".*.tmp"):
        half.unlink()
    decided: dict[str, Any] = dict(pending(folder))
    for one in proposed:
        if one.record is not None:
            write_whole(arrays_file(one.updated.path, one.record["predictions_sha256"], new=True), one.arrays)
            decided[one.updated.path.name] = one.record
    if decided:
        write_whole(folder / PENDING, _text(decided).encode())
        for name, record in decided.items():
            write_whole(folder / name, _text(record).encode())
            _sweep(folder / name, record["predictions_sha256"])
        (folder / PENDING).unlink()
    return [one.updated for one in proposed]


def _sweep(path: Path, sha256: str) -> None:
    """Delete arrays that the record no longer names."""
    named = arrays_file(path, sha256, new=True)
    if not named.exists():  # its arrays are those of an older version
        return
    pattern = re.compile(rf"{re.escape(path.stem)}(\.[0-9a-f]{{16}})?\.npz")
    for other in path.parent.iterdir():
        if other != named and pattern.fullmatch(other.name):
            other.unlink()


def _entry(old: Baseline | None, new: Baseline, content: Mapping[str, Any], change: Change) -> dict[str, Any]:
    entry = {
        "created": now(),
        "commit": change.commit,
        "run": change.run,
        "reason": change.reason.strip(),
        "release": change.release,
        "accepted_regression": _is_worse(old, new),
        "old": None if old is None else network_json(old.current, old.images).to_json(),
        "new": content[CURRENT],
        "content_sha256": digest(content),
    }
    return entry | {"digest": entry_digest(entry, new.history[-1]["digest"] if new.history else None)}


def _text(content: Mapping[str, Any]) -> str:
    """Sorted keys and a final newline keep differences readable."""
    return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
