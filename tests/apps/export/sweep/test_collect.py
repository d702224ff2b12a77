"""What is said of a sweep where there is little to compare."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rexnet_export.apps.export.sweep.collect import collected
from rexnet_export.apps.export.sweep.plan import Trial
from rexnet_export.apps.export.sweep.sweep_json import AgainstBest, Best, SweepJson
from rexnet_export.apps.export.sweep.tables import csv_table, summary
from rexnet_export.apps.export.sweep.trial import Exported, is_kept, run_away, run_trial
from rexnet_export.apps.shared.trials.outcome import Failed, attempted
from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.json import to_text
from rexnet_export.pipeline.core.records import file_sha256
from rexnet_export.pipeline.export.options import Options


def trial(folder: Path, name: str) -> Trial:
    return Trial(name=name, options=Options(target=("tflite",), output=folder / "trials" / name))


def test_where_every_trial_failed_each_says_why(tmp_path: Path) -> None:
    failed = Failed(reason="the disk is full, twice", exit_code=2)
    sweep = collected([trial(tmp_path, "a"), trial(tmp_path, "b")], {"a": failed, "b": failed}, tmp_path)
    assert SweepJson.parse(to_text(sweep.to_json())) == sweep
    assert summary(sweep) == "0 of 2 trials done; nothing is compared: no trial was done"
    assert csv_table(sweep).splitlines()[2].endswith(',2,"the disk is full, twice"')


def finished(folder: Path, name: str, images: str) -> Trial:
    """A trial of one file, measured on two images that this digest stands for."""
    one = trial(folder, name)
    one.options.output.mkdir(parents=True)
    accuracy = {"n": 2, "top1": 0.5, "reference_top1": 1.0, "drop": 0.5, "drop_lower_95": 0.1, "drop_upper_95": 0.9}
    file = {"artifact": "a.tflite", "sha256": "0" * 64, "bytes": 9, "accuracy": accuracy, "presets": {}}
    report = {"reference": {"images_sha256": images, "n": 2}, "targets": {"tflite": file}}
    (one.options.output / "report.json").write_text(json.dumps(report))
    right = np.eye(2, dtype=np.float32)
    np.savez(one.options.output / "predictions.npz", labels=[0, 1], reference=right, tflite=right[[0, 0]])
    return one


@pytest.mark.parametrize(("images", "compared"), [("first", True), ("second", False)])
def test_only_what_was_measured_on_the_same_images_is_compared(tmp_path: Path, images: str, *, compared: bool) -> None:
    trials = [finished(tmp_path, "a", "first"), finished(tmp_path, "b", images)]
    sweep = collected(trials, {each.name: Exported(manifest_sha256="0" * 64) for each in trials}, tmp_path)
    files = [file for each in sweep.trials for file in each.files]
    assert [file.on_size_front for file in files] == [compared] * 2
    assert [isinstance(file.against_best, AgainstBest) for file in files] == [compared] * 2
    assert isinstance(sweep.best, Best) == compared


def test_a_failure_elsewhere_is_told_as_one_here(tmp_path: Path) -> None:
    path = tmp_path / "broken.pth"
    path.write_bytes(b"no weights")
    one = trial(tmp_path, "a")
    one = replace(one, options=replace(one.options, checkpoint=str(path)))
    here, there = attempted(run_trial, one), attempted(run_away, one, path.read_bytes())
    assert isinstance(here, Failed)
    assert str(path) in here.reason
    assert here == there


@pytest.mark.parametrize("content", [None, "{}", "no json"])
def test_a_trial_whose_report_cannot_be_read_is_one_line(tmp_path: Path, content: str | None) -> None:
    one = trial(tmp_path, "a")
    one.options.output.mkdir(parents=True)
    if content is not None:
        (one.options.output / "report.json").write_text(content)
    with pytest.raises(ConversionError, match="go on with --resume"):
        collected([one], {"a": Exported(manifest_sha256="0" * 64)}, tmp_path)


def test_a_trial_is_kept_only_where_every_file_is_as_it_was(tmp_path: Path, exported: Path) -> None:
    one = trial(tmp_path, "a")
    assert not is_kept(one, Exported(manifest_sha256="0" * 64))
    shutil.copytree(exported, one.options.output)
    done = Exported(manifest_sha256=file_sha256(one.options.output / "manifest.json"))
    assert is_kept(one, done)
    assert not is_kept(one, Exported(manifest_sha256="0" * 64))
    file = next(one.options.output.glob("*.tflite"))
    content = file.read_bytes()
    file.write_bytes(content[:-1])
    assert not is_kept(one, done)
    file.write_bytes(content)
    assert is_kept(one, done)
    file.unlink()
    assert not is_kept(one, done)
