"""Trials on a real local Ray: what a worker lacks ends the run in one line, what fails or dies ends itself."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from types import ModuleType

import odd_trials
import piece_workers
import pytest
from slow_ray import skipped_where_ray_does_not_start

from rexnet_export.apps.shared.trials.outcome import Failed
from rexnet_export.apps.shared.trials.ray_cluster import RayCluster
from rexnet_export.pipeline.core.errors import DeviceError

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("local_ray")]


def test_a_trial_that_fails_or_whose_worker_dies_costs_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(odd_trials.__file__).parent))
    monkeypatch.setattr("rexnet_export.apps.shared.trials.ray_cluster.RETRIES", 0)
    ended = dict(RayCluster("local").each(odd_trials.doubled, range(4)))
    assert ended[0] == 0
    assert isinstance(ended[1], Failed)
    assert ended[1].reason.startswith("it was lost on Ray")
    assert ended[2] == Failed(reason="it is damaged", exit_code=10)
    assert ended[3] == Failed(reason="unexpected ZeroDivisionError('a fault of ours')", exit_code=70)


def test_a_worker_without_the_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("known_here_alone")
    exec("def run(trial):\n    return trial\n", module.__dict__)  # noqa: S102
    monkeypatch.setitem(sys.modules, "known_here_alone", module)
    with pytest.raises(DeviceError, match="has no known_here_alone: install this version of rexnet-export there"):
        list(RayCluster("local").each(module.run, [1]))


def test_pieces_of_trials_that_wait_run_on_the_only_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster  # noqa: PLC0415

    monkeypatch.setenv("PYTHONPATH", str(Path(piece_workers.__file__).parent))
    with skipped_where_ray_does_not_start():
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cases = ["sound", "sound too", "dies once", "fails", "idle"]
        ended = dict(RayCluster(cluster.address).each(partial(piece_workers.summed, tmp_path), cases))
    finally:
        cluster.shutdown()
    assert ended["sound"] == ended["sound too"] == ended["dies once"] == [0, 10, 20]
    assert (tmp_path / "died").exists()
    assert ended["fails"] == Failed(reason="photo 1 is damaged; replace it", exit_code=11)
    assert ended["idle"] is False
