"""Anchors are kept while they mean the same, and moved only when that is asked for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from gate_samples import CLASSES, edit, write_export

from rexnet_export.apps.gate.accuracy.decision import Policy
from rexnet_export.apps.gate.accuracy.evidence import Evidence, read_evidence
from rexnet_export.apps.gate.accuracy.questions import check
from rexnet_export.apps.gate.baseline.baseline import read_baselines
from rexnet_export.apps.gate.baseline.update import Change, update
from rexnet_export.pipeline.core.errors import UsageError

POLICY = Policy(margin=0.02, tolerance=0.01)


def with_runtime(folder: Path, executed_by: str) -> Evidence:
    targets = json.loads((folder / "report.json").read_text())["targets"]
    targets["ort"]["executed_by"] = executed_by
    return read_evidence(edit(folder, targets=targets))


def test_a_runtime_that_moved_needs_new_anchors(tmp_path: Path) -> None:
    old = read_evidence(write_export(tmp_path / "old"))
    update(old, tmp_path / "baselines", ("ort",), Change(reason="first", commit=None, release=True))
    new = with_runtime(write_export(tmp_path / "new"), "ONNX Runtime 1.27.0")
    with pytest.raises(UsageError, match=r"has a release that ran on ONNX Runtime 1\.26\.0, .* --release"):
        update(new, tmp_path / "baselines", ("ort",), Change(reason="newer runtime", commit=None))
    update(new, tmp_path / "baselines", ("ort",), Change(reason="newer runtime", commit=None, release=True))
    assert check(new, read_baselines(tmp_path / "baselines", new.model), POLICY, targets=("ort",)).overall == "pass"


def test_anchors_of_other_labels_or_precisions_are_not_kept(tmp_path: Path) -> None:
    update(
        read_evidence(write_export(tmp_path / "old")),
        tmp_path / "baselines",
        ("ort",),
        Change(reason="first", commit=None),
    )
    other = read_evidence(edit(write_export(tmp_path / "fp16"), precision="fp16"))
    with pytest.raises(UsageError, match="is of int8, not fp16"):
        update(other, tmp_path / "baselines", ("ort",), Change(reason="half", commit=None))
    labels = np.roll(np.arange(400) % len(CLASSES), 1)
    relabelled = read_evidence(edit(write_export(tmp_path / "relabelled"), {"labels": labels}))
    with pytest.raises(UsageError, match="with other labels"):
        update(
            relabelled, tmp_path / "baselines", ("ort",), Change(reason="labels", commit=None, accept_regression=True)
        )


def test_a_change_moves_no_anchor_and_accepts_nothing_worse_unless_asked() -> None:
    found = Change(reason="why", commit=None)
    assert (found.release, found.accept_regression, found.run) == (False, False, None)


def test_what_changed_is_told_of_each_target(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "there"
    first = update(read_evidence(write_export(tmp_path / "out")), folder, ("ort",), Change(reason="a", commit=None))
    again = update(
        read_evidence(write_export(tmp_path / "out", {"ort-x86": range(30)})),
        folder,
        ("ort", "ort x86"),
        Change(reason="b", commit=None),
    )
    assert [(one.target, one.changed, one.old_top1, one.new_top1) for one in (*first, *again)] == [
        ("ort", True, None, 0.9),
        ("ort", False, 0.9, 0.9),
        ("ort x86", True, None, 0.925),
    ]
    assert first[0].path == folder / "rexnet_100" / "ort.json"


def test_the_same_top1_is_no_regression(tmp_path: Path) -> None:
    update(read_evidence(write_export(tmp_path / "out")), tmp_path, ("ort",), Change(reason="a", commit=None))
    other = read_evidence(write_export(tmp_path / "out", {"ort": range(100, 140)}))
    (one,) = update(other, tmp_path, ("ort",), Change(reason="b", commit=None))
    assert (one.changed, one.old_top1) == (True, one.new_top1)
    assert read_baselines(tmp_path, "rexnet_100")["ort"].history[-1]["accepted_regression"] is False


def test_arrays_that_no_record_names_any_more_are_deleted_and_nothing_else(tmp_path: Path) -> None:
    change = Change(reason="a", commit=None)
    update(read_evidence(write_export(tmp_path / "out")), tmp_path, ("ort", "ort x86"), change)
    folder = tmp_path / "rexnet_100"
    (folder / "ort.notes.npz").write_bytes(b"mine")
    before = {file.name for file in folder.iterdir()}
    update(read_evidence(write_export(tmp_path / "out", {"ort": range(30)})), tmp_path, ("ort",), change)
    after = {file.name for file in folder.iterdir()}
    (gone,), (new,) = before - after, after - before
    assert gone.startswith("ort.")
    assert gone.endswith(".npz")
    assert new.startswith("ort.")


def test_names_are_written_as_people_read_them(tmp_path: Path) -> None:
    folder = write_export(tmp_path / "out")
    model = json.loads((folder / "report.json").read_text())["model"]
    other = read_evidence(edit(folder, model=model | {"labels": ["Eule", "Hund", "Bär"]}))
    (one,) = update(other, tmp_path, ("ort",), Change(reason="für alle", commit=None))
    assert '"Bär"' in one.path.read_text(encoding="utf-8")
    assert read_baselines(tmp_path, "rexnet_100")["ort"].images.class_names[2] == "Bär"
