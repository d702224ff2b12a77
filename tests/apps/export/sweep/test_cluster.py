"""Two nodes of Ray, one of which is killed while both export: nothing is lost, and the tables are the same."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from slow_ray import skipped_where_ray_does_not_start

from rexnet_export.apps.export.command import main
from rexnet_export.apps.shared.trials.journal import JOURNAL

BEGUN_S = 3.0  # after which a trial is in the middle of its export


@pytest.mark.slow
@pytest.mark.usefixtures("untimed", "local_ray")
def test_a_node_that_is_killed_costs_time_alone(plan: Path, swept: Path, tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster  # noqa: PLC0415

    with skipped_where_ray_does_not_start():
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        second = cluster.add_node(num_cpus=1)
    killed: list[float] = []

    def kill_when_both_are_busy() -> None:
        while not (ray.is_initialized() and not ray.available_resources().get("CPU")):
            time.sleep(0.1)
        time.sleep(BEGUN_S)
        cluster.remove_node(second, allow_graceful=False)
        killed.append(time.monotonic())

    watcher = threading.Thread(target=kill_when_both_are_busy, daemon=True)
    watcher.start()
    try:
        flags = ["--output", str(tmp_path / "out"), "--quiet", "--ray", cluster.address]
        assert main(["sweep", str(plan), *flags]) == 10
    finally:
        watcher.join(60)
        cluster.shutdown()
    assert killed
    assert len((tmp_path / "out" / JOURNAL).read_text(encoding="utf-8").splitlines()) == 4
    for name in ("sweep.json", "sweep.csv"):
        found = (tmp_path / "out" / name).read_text(encoding="utf-8")
        assert found == (swept / name).read_text(encoding="utf-8")
