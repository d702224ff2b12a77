"""Trials in processes: each ends for itself, however it ends, and the cores are shared out."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import piece_workers
import pytest
from odd_trials import cores_and_folder, doubled, forever_or_not, telling

from rexnet_export.apps.shared.trials.outcome import Failed
from rexnet_export.apps.shared.trials.processes import ProcessWorkers, affordable_jobs, in_processes
from rexnet_export.pipeline.core.errors import CheckpointError, DataError, DeviceError
from rexnet_export.pipeline.machine.environment import usable_cores


def test_one_trial_that_dies_or_fails_costs_no_other() -> None:
    ended = dict(in_processes(doubled, range(6), jobs=2))
    assert {trial: result for trial, result in ended.items() if not isinstance(result, Failed)} == {0: 0, 4: 8, 5: 10}
    assert ended[1] == Failed(reason="its process was killed (SIGKILL; out of memory?)", exit_code=5)
    assert ended[2] == Failed(reason="it is damaged", exit_code=10)
    assert ended[3] == Failed(reason="unexpected ZeroDivisionError('a fault of ours')", exit_code=70)


def test_a_trial_is_heard_while_it_runs() -> None:
    told: list[tuple[int, str]] = []
    ended = in_processes(telling, [0, 1, 4], jobs=1, heard=lambda trial, doing: told.append((trial, doing.stage)))
    assert next(ended) == (0, 0)
    assert told == [(0, "one"), (0, "two")]
    ((_, killed), last) = ended
    assert isinstance(killed, Failed)
    assert last == (4, 8)
    assert told == [(trial, stage) for trial in (0, 1, 4) for stage in ("one", "two")]


@pytest.mark.parametrize(("code", "kind"), [(10, CheckpointError), (5, DeviceError)])
def test_a_failure_is_an_error_of_its_kind(code: int, kind: type[Exception]) -> None:
    error = Failed(reason="it is damaged", exit_code=code).error("mend it")
    assert type(error) is kind
    assert str(error) == "it is damaged: mend it"


def test_a_process_has_its_share_of_the_cores_and_the_environment_of_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    list(in_processes(doubled, [0], jobs=1))  # whatever is kept for later processes has seen another environment
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("SWEPT", "yes")
    whole = usable_cores()
    ((_, alone),) = in_processes(cores_and_folder, [0], jobs=1)
    assert alone == (whole, str(tmp_path), "yes")
    for _, shared in in_processes(cores_and_folder, [0, 1], jobs=2):
        assert not isinstance(shared, Failed)
        assert shared[0] in {whole // 2, whole - whole // 2}


def test_what_runs_ends_with_who_asked(tmp_path: Path) -> None:
    running = in_processes(forever_or_not, [tmp_path, None], jobs=2)
    next(running)
    while not list(tmp_path.iterdir()):
        time.sleep(0.01)
    running.close()
    assert_ended(tmp_path)


FAILING = """
import sys, time
from pathlib import Path
from odd_trials import forever_or_not
from rexnet_export.apps.shared.trials.processes import in_processes

folder = Path(sys.argv[1])
busy = sys.argv[2] == "busy"
results = in_processes(forever_or_not, [folder, None] if busy else [None, None], jobs=2 if busy else 1)
next(results)
while busy and not list(folder.iterdir()):
    time.sleep(0.01)
raise OSError("no space left")
"""


@pytest.mark.parametrize("worker", ["busy", "idle"])
def test_a_program_that_fails_between_two_results_ends_with_all_that_it_started(worker: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", FAILING, str(tmp_path), worker]
    paths = os.pathsep.join(sys.path)
    ran = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": paths}, stderr=subprocess.PIPE, text=True, check=False, timeout=60
    )
    assert ran.returncode == 1
    assert ran.stderr.endswith("OSError: no space left\n")
    if worker == "busy":
        assert_ended(tmp_path)


def assert_ended(folder: Path) -> None:
    """The one process that noted itself in the folder is gone, or soon will be."""
    (process,) = folder.iterdir()
    deadline = time.monotonic() + 20
    while is_running(process.name):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_running(process: str) -> bool:
    """Neither gone nor ended and waiting for its parent to be told."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.mark.parametrize(("memory", "jobs"), [(1, usable_cores()), (2**60, 1)])
def test_as_many_jobs_as_memory_and_cores_allow(memory: int, jobs: int) -> None:
    assert affordable_jobs(memory) == jobs


def test_pieces_come_in_order_whoever_ends_first(tmp_path: Path) -> None:
    workers = ProcessWorkers(2)
    assert workers.idle()
    assert list(workers.each(piece_workers.piece, (tmp_path, "slow"), range(4))) == [0, 10, 20, 30]
    assert list(workers.each(piece_workers.piece, (tmp_path, "slow"), [1, 1])) == [10, 10]


def test_the_first_piece_that_fails_is_the_failure_of_all(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^photo 1 is damaged; replace it$"):
        list(ProcessWorkers(2).each(piece_workers.piece, (tmp_path, "fails"), range(3)))
    with pytest.raises(DeviceError, match="SIGKILL"):
        list(ProcessWorkers(2).each(piece_workers.piece, (tmp_path, "dies once"), range(3)))


def test_one_process_alone_is_no_help() -> None:
    assert not ProcessWorkers(1).idle()
    assert not ProcessWorkers(0).idle()
