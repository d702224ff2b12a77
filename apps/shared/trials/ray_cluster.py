"""Trials on a Ray cluster."""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rexnet_export.apps.shared.trials.outcome import Failed, attempted
from rexnet_export.pipeline.core.errors import DeviceError, first_line
from rexnet_export.pipeline.core.extras import require_module
from rexnet_export.pipeline.core.reproducible import VARIABLE

LOCAL = "local"
NAMED = (LOCAL, "auto")
PATIENCE_S = 5.0
RETRIES = 5  # of a trial whose worker or node died


class RayCluster:
    """The cluster at `address`: host:port, ray://host:port, auto or local; `DeviceError` where none answers."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._ray = _connected(address)

    def each[Trial, Result](
        self,
        run: Callable[..., Result],
        trials: Sequence[Trial],
        *,
        wants_gpu: Callable[[Trial], bool] = lambda _: False,
        carried: Callable[[Trial], Path | None] | None = None,
    ) -> Generator[tuple[Trial, Result | Failed]]:
        """Run every trial as a task of one core, yield each with its result as it ends, and leave the cluster.

        A worker that dies is replaced by Ray, and its trial begins again elsewhere. Where the cluster has GPUs, a
        trial that wants one gets one. `run` takes a trial and, with `carried`, the content of the file that this names
        for it, or None: each file is brought to each node once.
        """
        ray = self._ray
        try:
            has_gpus = bool(ray.cluster_resources().get("GPU"))
            kept = {name: os.environ[name] for name in (VARIABLE,) if name in os.environ}
            task = ray.remote(num_cpus=1, max_retries=RETRIES, runtime_env={"env_vars": kept})(attempted)
            waiting = {}
            stored: dict[Path | None, object] = {None: None}
            for trial in trials:
                path = carried(trial) if carried else None
                if path not in stored and path is not None:
                    stored[path] = ray.put(path.read_bytes())
                given = (trial, stored[path]) if carried else (trial,)
                placed = task.options(num_gpus=int(has_gpus and wants_gpu(trial)))
                waiting[placed.remote(run, *given)] = trial
            while waiting:
                (ready,), _ = ray.wait(list(waiting), num_returns=1)
                yield waiting.pop(ready), _result(ray, ready)
        except ray.exceptions.RayError as error:
            raise DeviceError(f"Ray at {self._address} failed ({_reason(error)}): go on with --resume") from error
        finally:
            ray.shutdown()


class RayWorkers:
    """The cluster that a trial is a task of, for pieces of its work: tasks of their own, which the trial waits for.

    A trial that waits gives its core back, so its pieces run where there is no other core, too.
    """

    def idle(self) -> bool:
        """Whether a core of the cluster is free; not where the trial has a GPU, which its pieces would not have."""
        ray = _imported()
        others = ray.cluster_resources().get("CPU", 0) - 1  # one is this trial's, which Ray's count may miss
        return not ray.get_gpu_ids() and min(others, ray.available_resources().get("CPU", 0)) >= 1

    def each[Work, Part, Result](
        self, run: Callable[[Work, Part], Result], work: Work, parts: Sequence[Part]
    ) -> Generator[Result]:
        """`run(work, part)` of every part, in the order of the parts; the `ExportError` of the first that fails.

        The work is brought to each node once. A worker that dies is replaced, and its part begins again elsewhere.
        """
        ray = _imported()
        task = ray.remote(num_cpus=1, max_retries=RETRIES)(attempted)
        stored = ray.put(work)
        waiting = deque(task.remote(run, stored, part) for part in parts)
        try:
            while waiting:
                sent: Result | Failed = ray.get(waiting[0])
                waiting.popleft()
                if isinstance(sent, Failed):
                    raise sent.error()
                yield sent
        except ray.exceptions.RayError as error:
            raise _without_package(error) or DeviceError(f"a piece of it was lost on Ray ({_reason(error)})") from error
        finally:
            for left in waiting:
                ray.cancel(left)


def _result[Result](ray: Any, ready: object) -> Result | Failed:  # noqa: ANN401 - a module
    try:
        sent: Result | Failed = ray.get(ready)
        return sent
    except ray.exceptions.RayError as error:
        if (missing := _without_package(error)) is not None:
            raise missing from error
        return Failed(reason=f"it was lost on Ray ({_reason(error)})", exit_code=DeviceError.exit_code)


def _without_package(error: BaseException) -> DeviceError | None:
    """Where a worker could not import what it was to run: what it lacks."""
    if "No module named" not in str(error):
        return None
    missing = str(error).rpartition("No module named")[2].split()[0].strip("'\".")
    return DeviceError(
        f"a worker of Ray has no {missing}: install this version of rexnet-export there, then go on with --resume"
    )


def _connected(address: str) -> Any:  # noqa: ANN401 - a module
    require_module("ray", f"--ray {address}")
    if address not in NAMED:
        _check_reachable(address)  # Ray itself waits for minutes
    ray = _imported()
    # A node that is not there after 30 s ends itself, and no setting says otherwise. On a slow machine the first start
    # of a new installation takes that long, the second does not: its files are compiled then.
    for last in (False, True) if address == LOCAL else (True,):
        try:
            ray.init(address=address, log_to_driver=False, include_dashboard=False if address == LOCAL else None)
            break
        except Exception as error:  # Ray fails in as many ways as there are clusters
            with suppress(Exception):
                ray.shutdown()
            if last:
                raise DeviceError(f"--ray {address}: no cluster answers ({_reason(error)}): is it started?") from error
    return ray


def _imported() -> Any:  # noqa: ANN401 - a module
    import ray  # noqa: PLC0415 - an extra, which takes seconds

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
