"""One trial: an ordinary export in a process of its own, here or on a worker elsewhere."""

from __future__ import annotations

import io
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rexnet_export.apps.export.report.page import render
from rexnet_export.apps.export.sweep.plan import Trial
from rexnet_export.apps.shared.trials.outcome import Failed
from rexnet_export.apps.shared.trials.telling import told_stages
from rexnet_export.pipeline.artifact.export_folder import altered
from rexnet_export.pipeline.core.errors import ConversionError, ExportError
from rexnet_export.pipeline.core.files import MANIFEST_FILE, take_mode, writing
from rexnet_export.pipeline.core.records import NotMeasured, file_sha256
from rexnet_export.pipeline.export.export import export
from rexnet_export.pipeline.export.possible import require_paths, require_targets
from rexnet_export.pipeline.machine.own_disk import own_disk, temporary_folder
from rexnet_export.pipeline.machine.shared_work import SharedWork
from rexnet_export.pipeline.proof.pieces import Workers
from rexnet_export.targets import chosen

MOST_SHARED = 8 * 2**30  # bytes on the disk
UNTIMED = NotMeasured(reason="trials run side by side; the sweep times all files afterwards, in turns (timings.json)")


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A trial that is done; the digest is of the manifest, which vouches for everything else in its folder."""

    manifest_sha256: str


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How one trial ended."""

    name: str
    result: Exported | Failed


def run_trial(trial: Trial, workers: Workers | None = None) -> Exported:
    """Export into the trial's folder, and tell its stages; `workers` may run pieces of many evaluation images."""
    targets = chosen(trial.options.target, trial.options.precision)
    require_paths(trial.options)
    require_targets(targets, trial.options.precision)
    work = None if trial.shared is None else SharedWork(trial.shared, MOST_SHARED)
    export(trial.options, targets, told_stages(), render, untimed=UNTIMED, work=work, workers=workers)
    return Exported(manifest_sha256=file_sha256(trial.options.output / MANIFEST_FILE))


def own_file(trial: Trial) -> Path | None:
    """A checkpoint that is a file; a folder or a repository of the hub is known to all machines, or fails there."""
    path = None if trial.options.checkpoint is None else Path(trial.options.checkpoint)
    return path if path is not None and path.is_file() else None


def run_away(trial: Trial, checkpoint: bytes | None, workers: Workers | None = None) -> bytes:
    """Export on a machine that may share no folder with the one that asked; the output folder as a tar archive.

    `checkpoint` is the content of the trial's own file; `workers` may run pieces of many evaluation images.
    """
    content = io.BytesIO()
    with own_disk():
        temporary = tempfile.TemporaryDirectory()
    with temporary as name:
        options = replace(trial.options, output=Path(name) / "out")
        told = {str(options.output): temporary_folder()}
        if checkpoint is not None:
            with own_disk():
                there = Path(name) / "given" / Path(str(options.checkpoint)).name
                there.parent.mkdir()
                there.write_bytes(checkpoint)
            told[str(there)] = str(options.checkpoint)
            options = replace(options, checkpoint=str(there))
        with _told(told):
            run_trial(replace(trial, options=options, shared=None), workers)
        with tarfile.open(fileobj=content, mode="w") as archive:
            archive.add(options.output, arcname=".")
    return content.getvalue()


@contextmanager
def _told(names: Mapping[str, str]) -> Iterator[None]:
    """A failure names the checkpoint as the sweep does, wherever it is meanwhile, and the worker's disk as its own."""
    try:
        yield
    except ExportError as error:
        text = str(error)
        for there, here in names.items():
            text = text.replace(there, here)
        raise type(error)(text) from error


def unpacked(trial: Trial, archive: bytes) -> Exported:
    """What came back, in the trial's folder: whole, or not at all."""
    output = trial.options.output
    with writing(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as name:
            folder = Path(name) / output.name
            with tarfile.open(fileobj=io.BytesIO(archive)) as content:
                content.extractall(folder, filter="data")
            if output.is_dir():
                take_mode(folder, output)
            shutil.rmtree(output, ignore_errors=True)
            folder.rename(output)
    return Exported(manifest_sha256=file_sha256(output / MANIFEST_FILE))


def is_kept(trial: Trial, result: Exported) -> bool:
    """Whether a trial's folder is still what it was when it was done: its manifest, and every file that it names."""
    folder = trial.options.output
    try:
        return file_sha256(folder / MANIFEST_FILE) == result.manifest_sha256 and not altered(folder)
    except (OSError, ConversionError):
        return False


def to_line(outcome: Outcome) -> Mapping[str, Any]:
    """An outcome as JSON values."""
    return {"trial": outcome.name, **vars(outcome.result)}


def from_line(line: Mapping[str, Any]) -> Outcome:
    """The same back; a `TypeError` or `KeyError` where it is none."""
    values = dict(line)
    name = values.pop("trial")
    return Outcome(name=name, result=Failed(**values) if "reason" in values else Exported(**values))
