"""The images of one trial in pieces, here and on Ray: its folder is the same to the byte."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import piece_workers
import pytest
from shared import shared
from small_export import small_checkpoint

from rexnet_export.apps.export.sweep import run_sweep
from rexnet_export.apps.export.sweep.plan import Trial, read_plan
from rexnet_export.apps.export.sweep.trial import own_file, run_trial, unpacked
from rexnet_export.apps.shared.trials.outcome import Failed
from rexnet_export.apps.shared.trials.processes import ProcessWorkers
from rexnet_export.apps.shared.trials.ray_cluster import RayCluster
from rexnet_export.pipeline.core.progress import Silent
from rexnet_export.pipeline.export.options import Options
from rexnet_export.pipeline.proof import pieces

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def reproducible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Trial:
    """INT8 files, a folder, and the reference itself, over two batches and a bit."""

    def write(folder: Path) -> None:
        folder.mkdir()
        small_checkpoint(folder / "small.safetensors")

    options = Options(
        checkpoint=str(shared(tmp_path_factory, "spread", write) / "small.safetensors"),
        target=("ort", "coreml", "gpu"),
        effort="fast",
        calibration_images=8,
        eval_images=150,
    )
    return Trial(name="one", options=options)


def placed(trial: Trial, output: Path) -> Trial:
    return replace(trial, options=replace(trial.options, output=output))


def contents(folder: Path) -> Mapping[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def alone(trial: Trial, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, bytes]:
    """What the trial writes where nobody helps."""
    output = tmp_path_factory.mktemp("alone") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOURCE_DATE_EPOCH", "1700000000")
        run_trial(placed(trial, output))
    return contents(output)


def test_pieces_by_copies_of_everything(
    trial: Trial, alone: Mapping[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "PIECE", 64)
    workers = piece_workers.Copies()
    run_trial(placed(trial, tmp_path / "out"), workers)
    assert workers.sizes == [64, 64, 22] * 2  # of the files, then of the graphs between
    assert contents(tmp_path / "out") == alone


def test_pieces_in_processes(
    trial: Trial, alone: Mapping[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "PIECE", 64)
    given = placed(trial, tmp_path / "out")
    given = replace(given, shared=tmp_path / "shared")  # what all trials of a machine share, their pieces share too
    run_trial(given, ProcessWorkers(2, run_sweep.PRELOAD))
    assert contents(tmp_path / "out") == alone


@pytest.mark.parametrize(("jobs", "each"), [(5, 2), (2, 1), (1, 0)])
def test_jobs_that_have_no_trial_are_shared_out(
    plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: int, each: int
) -> None:
    asked: list[ProcessWorkers] = []

    def noted(run: partial[object], *_: object) -> list[object]:
        asked.append(run.keywords["workers"])
        return []

    monkeypatch.setattr(run_sweep, "in_processes", noted)
    with Silent().stage("running trials", 2, "trials") as bar:
        run_sweep._here(read_plan(plan, tmp_path)[:2], jobs, bar)
    assert [workers.jobs for workers in asked] == [each]


@pytest.mark.usefixtures("local_ray")
def test_pieces_on_ray(
    trial: Trial, alone: Mapping[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.fspath(Path(piece_workers.__file__).parent))
    given = placed(trial, tmp_path / "out")
    ((_, result),) = RayCluster("local").each(piece_workers.away_in_pieces, [given], carried=own_file)
    assert not isinstance(result, Failed), result
    archive, count = result
    unpacked(given, archive)
    assert count == 6
    found = contents(tmp_path / "out")
    assert found.keys() == alone.keys()
    # Ray puts a psutil of its own before the installed one, which the bill of materials may name.
    of_tools = {"sbom.cdx.json", "manifest.json", "provenance.intoto.json"}
    assert {name for name in alone if found[name] != alone[name]} <= of_tools
