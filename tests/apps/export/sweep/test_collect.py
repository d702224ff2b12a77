"""What is said of a sweep where there is little to compare."""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import stat
import tarfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from finished_trials import finish
from small_disk import on_small_disk

from rexnet_export.apps.export.sweep.collect import collected
from rexnet_export.apps.export.sweep.plan import Trial
from rexnet_export.apps.export.sweep.sweep_json import AgainstBest, Best, SweepJson, TimingsJson
from rexnet_export.apps.export.sweep.tables import csv_table, rows, summary
from rexnet_export.apps.export.sweep.trial import Exported, is_kept, run_away, run_trial, unpacked
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


@pytest.mark.parametrize(("images", "compared"), [("first", True), ("second", False)])
def test_only_what_was_measured_on_the_same_images_is_compared(tmp_path: Path, images: str, *, compared: bool) -> None:
    trials = [trial(tmp_path, "a"), trial(tmp_path, "b")]
    done = {each.name: finish(each, which) for each, which in zip(trials, ("first", images), strict=True)}
    sweep = collected(trials, done, tmp_path)
    files = [file for each in sweep.trials for file in each.files]
    assert [file.on_size_front for file in files] == [compared] * 2
    assert [isinstance(file.against_best, AgainstBest) for file in files] == [compared] * 2
    assert isinstance(sweep.best, Best) == compared


def test_a_file_that_was_asked_about_some_images_is_compared_on_them(tmp_path: Path) -> None:
    """The second of two images, which it has wrong; the reference has both right."""
    one = trial(tmp_path, "a")
    done = {"a": finish(one, right=2)}
    folder = one.options.output
    with np.load(folder / "predictions.npz") as stored:
        arrays = {**stored, "tflite": stored["reference"][:1], "tflite.images": np.array([1], np.uint32)}
    np.savez(folder / "predictions.npz", **arrays)
    report = json.loads((folder / "report.json").read_text())
    report["targets"]["tflite"]["accuracy"] |= {"n": 1, "top1": 0.0, "drop": 0.75}
    (folder / "report.json").write_text(json.dumps(report))
    (file,) = collected([one], done, tmp_path).trials[0].files
    assert isinstance(file.against_best, AgainstBest)
    assert (file.against_best.worse, file.against_best.better, file.against_best.drop) == (1, 0, 1.0)
    assert file.top1_of_all == 0.25
    assert "0.00% of 1" in str(list(rows(collected([one], done, tmp_path), TimingsJson(machine="it", files={}))))


@pytest.mark.parametrize("places", [[2], [1, 0], [0.5], [[0]]])
def test_places_that_are_none_are_a_damaged_trial(tmp_path: Path, places: list[object]) -> None:
    one = trial(tmp_path, "a")
    done = {"a": finish(one)}
    with np.load(one.options.output / "predictions.npz") as stored:
        arrays = {**stored, "tflite.images": np.array(places)}
    np.savez(one.options.output / "predictions.npz", **arrays)
    with pytest.raises(ConversionError, match=r"place.*go on with --resume"):
        collected([one], done, tmp_path)


def test_a_failure_elsewhere_is_told_as_one_here(tmp_path: Path) -> None:
    path = tmp_path / "broken.pth"
    path.write_bytes(b"no weights")
    one = trial(tmp_path, "a")
    one = replace(one, options=replace(one.options, checkpoint=str(path)))
    here, there = attempted(run_trial, one), attempted(run_away, one, path.read_bytes())
    assert isinstance(here, Failed)
    assert str(path) in here.reason
    assert here == there


def test_a_checkpoint_that_is_gone_meanwhile_is_named_here_and_elsewhere(tmp_path: Path) -> None:
    one = trial(tmp_path, "a")
    one = replace(one, options=replace(one.options, checkpoint=str(tmp_path / "gone.pth")))
    here, there = attempted(run_trial, one), attempted(run_away, one, None)
    assert isinstance(here, Failed)
    assert here.exit_code == 10
    assert str(tmp_path / "gone.pth") in here.reason
    assert here == there


@pytest.mark.parametrize("more", [-1, 100_000], ids=["its checkpoint", "its files"])
def test_a_worker_whose_disk_is_full_says_where(tmp_path: Path, checkpoint: Path, more: int) -> None:
    content = checkpoint.read_bytes()
    few = Options(target=("ort",), precision="fp32", eval_images=8, checkpoint=str(checkpoint))
    one = Trial(name="a", options=replace(few, output=tmp_path / "trials" / "a"))
    ended, left = on_small_disk(partial(run_away, one, content), tmp_path / "disk", len(content) + more)
    assert isinstance(ended, Failed)
    assert ended.exit_code == 2
    assert f"{tmp_path / 'disk'} on the worker {socket.gethostname()}" in ended.reason
    assert "\n" not in ended.reason
    assert left == []


def test_a_full_disk_here_is_named_and_no_half_of_a_trial_is_left(tmp_path: Path) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as content:
        for name in ("manifest.json", "a.tflite"):
            (tmp_path / name).write_bytes(bytes(50_000))
            content.add(tmp_path / name, arcname=name)
    one = trial(tmp_path / "disk", "a")
    ended, left = on_small_disk(partial(unpacked, one, archive.getvalue()), tmp_path / "disk", 80_000)
    assert isinstance(ended, Failed)
    assert ended.exit_code == 2
    assert f"{one.options.output} cannot be written (No space left on device)" in ended.reason
    assert left == ["trials"]


@pytest.mark.parametrize(("umask", "new"), [(0o022, 0o755), (0o077, 0o700)])
def test_a_trial_that_comes_back_is_open_to_whom_any_folder_is(tmp_path: Path, umask: int, new: int) -> None:
    """The worker's own folder may be private; one that is replaced keeps its mode."""
    there = tmp_path / "there"
    there.mkdir(0o700)
    (there / "manifest.json").write_text("{}")
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.add(there, arcname=".")
    one = trial(tmp_path, "a")
    before = os.umask(umask)
    try:
        unpacked(one, content.getvalue())
        assert stat.S_IMODE(one.options.output.stat().st_mode) == new
        one.options.output.chmod(0o750)
        unpacked(one, content.getvalue())
    finally:
        os.umask(before)
    assert stat.S_IMODE(one.options.output.stat().st_mode) == 0o750


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
