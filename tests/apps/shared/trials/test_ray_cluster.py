"""Trials on a real local Ray: what a worker lacks ends the run in one line, what fails or dies ends itself."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import odd_trials
import pytest

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
