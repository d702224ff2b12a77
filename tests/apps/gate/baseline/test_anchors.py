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
