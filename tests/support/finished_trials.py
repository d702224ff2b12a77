"""Trials of a sweep that are done without an export: the records that a sweep reads of each."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from manifests import vouch

from rexnet_export.apps.export.sweep.plan import Trial
from rexnet_export.apps.export.sweep.trial import Exported
from rexnet_export.pipeline.core.progress import Silent
from rexnet_export.pipeline.core.records import file_sha256
from rexnet_export.pipeline.export.publish import staging


def finish(trial: Trial, images: str = "same", right: int = 1, notices: Sequence[str] = ()) -> Exported:
    """One file, measured on two images that this digest stands for, so many of which it has right."""
    folder, target = trial.options.output, trial.target
    folder.mkdir(parents=True)
    drop = 1 - right / 2
    accuracy = {"n": 2, "top1": right / 2, "reference_top1": 1.0, "drop": drop, "drop_lower_95": 0, "drop_upper_95": 1}
    file = {"artifact": f"a.{target}", "sha256": "0" * 64, "bytes": 9, "accuracy": accuracy, "presets": {}}
    report = {"notices": list(notices), "reference": {"images_sha256": images, "n": 2}, "targets": {target: file}}
    (folder / "report.json").write_text(json.dumps(report))
    (folder / f"a.{target}").write_text(trial.name)
    reference = np.eye(2, dtype=np.float32)
    answers: dict[str, Any] = {"labels": [0, 1], "reference": reference, target: reference[[0, right - 1]]}
    np.savez(folder / "predictions.npz", **answers)
    vouch(folder)
    return Exported(manifest_sha256=file_sha256(folder / "manifest.json"))


def finishing(ran: list[str]) -> Callable[..., Iterator[tuple[Trial, Exported]]]:
    """What runs trials like that in place of processes, and notes which."""

    def run(_: object, trials: Sequence[Trial], *_given: object) -> Iterator[tuple[Trial, Exported]]:
        for trial in trials:
            ran.append(trial.name)
            yield trial, finish(trial)

    return run


def finish_and_share(trial: Trial, workers: object) -> Exported:
    """The same, with something left for other trials."""
    assert trial.shared is not None
    trial.shared.mkdir(parents=True, exist_ok=True)
    (trial.shared / trial.name).touch()
    return finish(trial)


def without_room(trial: Trial, workers: object) -> None:
    """A trial that says that it began, and finds the disk full."""
    (trial.options.output.parent.parent / f"{trial.name} began").touch()
    with staging(trial.options.output, Silent()):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
