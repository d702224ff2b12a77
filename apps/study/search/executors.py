"""Where a search's trials run: processes of this machine, or a Ray cluster."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

from rexnet_export.apps.study.search.journal import TrialResult
from rexnet_export.apps.study.search.search import Executor, Trial, run_trial
from rexnet_export.pipeline.core.errors import DeviceError, ExportError, TargetUnavailable, first_line

LOCAL = "local"
NAMED = (LOCAL, "auto")
PATIENCE_S = 5.0


def on_this_machine(jobs: int | None = None) -> Executor:
    """Processes side by side, one per core unless told otherwise."""

    def execute(trials: Sequence[Trial]) -> Iterator[TrialResult]:
        workers = min(jobs or os.cpu_count() or 1, len(trials))
        # Spawned, not forked: torch's threads do not survive a fork.
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_follow_the_parent)
        try:
            for future in as_completed([pool.submit(run_trial, trial) for trial in trials]):
                yield future.result()
        except BrokenProcessPool as error:
            raise DeviceError(
                "a trial's process was killed (out of memory?): lower --jobs and go on with --resume"
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    return execute


def _follow_the_parent() -> None:
    """Leave Ctrl-C to the parent, and end with it: a worker whose parent was killed would wait for trials for ever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None, "runs in a worker"

    def end_with_it() -> None:
        parent.join()
        os._exit(1)

    Thread(target=end_with_it, daemon=True).start()


def on_ray(address: str) -> Executor:
    """One task of one core per trial on the cluster at `address`: host:port, ray://host:port, auto or local."""
    ray = _connected(address)

    def execute(trials: Sequence[Trial]) -> Iterator[TrialResult]:
        # A worker that dies is replaced by Ray; a trial that fails by its own fault is not tried again.
        task = ray.remote(num_cpus=1, max_retries=2)(run_trial)
        waiting = [task.remote(trial) for trial in trials]
        try:
            while waiting:
                ready, waiting = ray.wait(waiting)
                yield from ray.get(ready)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, ExportError):
                raise error.cause from error
            raise DeviceError(f"a trial failed on Ray ({_reason(error)}): mend it and go on with --resume") from error
        except ray.exceptions.RayError as error:
            raise DeviceError(f"Ray at {address} failed ({_reason(error)}): go on with --resume") from error
        finally:
            ray.shutdown()

    return execute


def _connected(address: str) -> Any:  # noqa: ANN401 - a module
    try:
        import ray  # noqa: PLC0415
    except ImportError as error:
        raise TargetUnavailable("Ray is not installed: pip install 'rexnet-export[ray]'") from error
    if address not in NAMED:
        _check_reachable(address)  # Ray itself waits for minutes
    try:
        ray.init(address=address, log_to_driver=False, include_dashboard=False if address == LOCAL else None)
    except Exception as error:  # Ray fails in as many ways as there are clusters
        raise DeviceError(f"--ray {address}: no cluster answers ({_reason(error)}): is it started?") from error
    return ray


def _check_reachable(address: str) -> None:
    try:
        parts = urlsplit(address if "//" in address else f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if host is None or port is None:
        raise DeviceError(f"--ray {address}: no address; give host:port, ray://host:port, auto or local")
    try:
        socket.create_connection((host, port), timeout=PATIENCE_S).close()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise DeviceError(f"--ray {address}: not reachable ({reason}); is the cluster started?") from error


def _reason(error: BaseException) -> str:
    return first_line(error).rstrip(":.")
