"""Where a search's trials run: processes of this machine, or a Ray cluster."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing

from rexnet_export.apps.shared.trials.outcome import Failed
from rexnet_export.apps.shared.trials.processes import in_processes
from rexnet_export.apps.shared.trials.ray_cluster import RayCluster
from rexnet_export.apps.study.search.journal import TrialResult
from rexnet_export.apps.study.search.search import Executor, Trial, run_trial
from rexnet_export.pipeline.machine.environment import usable_cores


def on_this_machine(jobs: int | None = None) -> Executor:
    """Processes side by side, one per core unless told otherwise."""

    def execute(trials: Sequence[Trial]) -> Generator[TrialResult]:
        workers = min(jobs or usable_cores(), len(trials))
        return _results(in_processes(run_trial, trials, workers, preload=(run_trial.__module__,)))

    return execute


def on_ray(address: str) -> Executor:
    """One task of one core per trial on the cluster at `address`: host:port, ray://host:port, auto or local."""
    cluster = RayCluster(address)
    return lambda trials: _results(cluster.each(run_trial, trials))


def _results(ended: Generator[tuple[Trial, TrialResult | Failed]]) -> Generator[TrialResult]:
    """A search without one of its configurations would compare others than it says: the first failure ends it."""
    with closing(ended):
        for _, result in ended:
            if isinstance(result, Failed):
                raise result.error("mend it and go on with --resume")
            yield result
