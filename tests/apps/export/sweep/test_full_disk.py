"""A sweep whose disk is full ends at once, with nothing that runs or lies about, whoever finds it."""

from __future__ import annotations

import errno
import multiprocessing
import os
from pathlib import Path

import pytest
from finished_trials import finish_and_share, without_room

from rexnet_export.apps.export.command import main
from rexnet_export.apps.export.sweep import run_sweep
from rexnet_export.apps.shared.trials import journal


def test_a_disk_that_is_full_ends_a_sweep_and_keeps_what_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    plan, output = tmp_path / "sweep.toml", tmp_path / "out"
    plan.write_text("targets = ['ort', 'tflite', 'coreml']\nprecisions = ['fp32']", encoding="utf-8")
    room = iter([True, True])  # for what is asked, and for one trial

    def fsync(_: int) -> None:
        if not next(room, False):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(journal.os, "fsync", fsync)
    monkeypatch.setattr(run_sweep, "run_trial", finish_and_share)
    monkeypatch.setattr(run_sweep, "PRELOAD", ())
    assert main(["sweep", str(plan), "--output", str(output), "--jobs", "2"]) == 2
    error = capfd.readouterr().err
    assert error == (
        f"rexnet-export sweep: {output} cannot be written (No space left on device); make room or name another "
        "--output\n"
    )
    assert multiprocessing.active_children() == []
    assert sorted(path.name for path in output.iterdir()) == [journal.JOURNAL, "trials"]


def test_a_disk_that_a_trial_finds_full_ends_a_sweep_before_the_next_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    plan, output = tmp_path / "sweep.toml", tmp_path / "out"
    plan.write_text("targets = ['ort', 'tflite', 'coreml']\nprecisions = ['fp32']", encoding="utf-8")
    monkeypatch.setattr(run_sweep, "run_trial", without_room)
    monkeypatch.setattr(run_sweep, "PRELOAD", ())
    assert main(["sweep", str(plan), "--output", str(output), "--jobs", "1", "--quiet"]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("rexnet-export sweep: bundled-fp32-ort: ")
    assert "the disk is full; free some space and run again; the sweep ended there, go on with --resume" in line
    assert [path.name for path in output.glob("* began")] == ["bundled-fp32-ort began"]
    assert multiprocessing.active_children() == []
    assert (output / journal.JOURNAL).exists()
    assert not (output / "sweep.json").exists()
