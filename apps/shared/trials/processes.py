"""Trials in processes of this machine, each in one of its own, so that a death costs one trial alone."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from multiprocessing.connection import Connection, Pipe, wait
from multiprocessing.process import BaseProcess
from typing import NoReturn

from rexnet_export.apps.shared.trials.outcome import Failed, attempted
from rexnet_export.apps.shared.trials.telling import TELL, Doing
from rexnet_export.pipeline.core.errors import DeviceError
from rexnet_export.pipeline.machine.child import end_with_parent
from rexnet_export.pipeline.machine.environment import free_memory, usable_cores

FORKS = sys.platform == "linux"  # elsewhere frameworks do not survive a fork
PATIENCE_S = 10.0  # for what was killed to be gone


def affordable_jobs(memory_of_a_trial: int) -> int:
    """How many trials to run side by side: one a core, and no more than the free memory (bytes) has room for."""
    free = free_memory()
    return usable_cores() if free is None else max(1, min(usable_cores(), free // memory_of_a_trial))


def in_processes[Trial, Result](
    run: Callable[[Trial], Result],
    trials: Sequence[Trial],
    jobs: int,
    preload: Sequence[str] = (),
    heard: Callable[[Trial, Doing], object] = lambda *_: None,
) -> Generator[tuple[Trial, Result | Failed]]:
    """Run every trial, `jobs` at a time, and yield each with its result as it ends.

    The processes end with the generator. Whoever may fail between two results closes it: an error keeps the frames
    that it went through, and with them the generator, for as long as anybody keeps the error.

    The cores are shared out: a process sees its own alone, and all that asks how many there are uses no more threads.
    `preload` are modules that trials need, imported once for all trials of a job. `heard` is called with what a trial
    tells meanwhile (`told_stages`).
    """
    waiting = deque(trials)
    servers = [_Server(run, preload, cores) for cores in _shares(min(jobs, len(trials)))]
    idle, busy = deque(servers), dict[Connection, tuple[_Server[Trial, Result], Trial]]()

    def end() -> None:
        for server in servers:
            server.end()

    atexit.register(end)  # of a generator that nobody closes; the interpreter would wait for its processes for ever
    try:
        while waiting or busy:
            while waiting and idle:
                server, trial = idle.popleft(), waiting.popleft()
                busy[server.ask(trial)] = server, trial
            for ready in wait(list(busy)):
                assert isinstance(ready, Connection)
                server, trial = busy[ready]
                answer = server.answer()
                if isinstance(answer, Doing):
                    heard(trial, answer)
                    continue
                del busy[ready]
                idle.append(server)
                yield trial, answer
    finally:
        end()
        atexit.unregister(end)


@dataclass(frozen=True)
class ProcessWorkers:
    """So many processes of this machine for pieces of a trial's work, which share the trial's cores while it waits.

    `preload` are modules that pieces need.
    """

    jobs: int
    preload: Sequence[str] = ()

    def idle(self) -> bool:
        """Whether there are two or more: one alone does no more than the trial itself."""
        return self.jobs > 1

    def each[Work, Part, Result](
        self, run: Callable[[Work, Part], Result], work: Work, parts: Sequence[Part]
    ) -> Generator[Result]:
        """`run(work, part)` of every part, in the order of the parts; the `ExportError` of the first that fails."""
        ended: dict[int, Result] = {}
        numbered = list(enumerate(parts))
        with closing(in_processes(partial(_numbered, run, work), numbered, self.jobs, self.preload)) as results:
            for (number, _), result in results:
                if isinstance(result, Failed):
                    raise result.error()
                ended[number] = result
                while numbered and numbered[0][0] in ended:
                    yield ended.pop(numbered.pop(0)[0])


def _numbered[Work, Part, Result](run: Callable[[Work, Part], Result], work: Work, part: tuple[int, Part]) -> Result:
    return run(work, part[1])


def _shares(jobs: int) -> list[set[int]]:
    """The cores of each job; none where the system does not tell, or has fewer than there are jobs."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    allowed = cores[: usable_cores()]  # a container may give less time than it shows cores
    return [set(allowed[slot::jobs]) for slot in range(jobs)]


@dataclass
class _Started:
    process: BaseProcess
    connection: Connection


class _Server[Trial, Result]:
    """A process that has imported what trials need and runs nothing itself; started when first asked."""

    def __init__(self, run: Callable[[Trial], Result], preload: Sequence[str], cores: set[int]) -> None:
        self._arguments = (run, preload, cores)
        self._started: _Started | None = None

    def ask(self, trial: Trial) -> Connection:
        """Have the trial run; the connection is ready when its answer is there."""
        self._started = self._started or self._start()
        self._started.connection.send(trial)
        return self._started.connection

    def answer(self) -> Result | Failed | Doing:
        """What the trial tells, and last its result; where the server itself was killed, why there is none: the next
        trial gets a new one."""
        assert self._started is not None, "it was asked"
        try:
            sent: Result | Failed | Doing = self._started.connection.recv()
        except (EOFError, ConnectionResetError):
            self._started.process.join()
            code, self._started = self._started.process.exitcode or 0, None
            return _death(code)
        return sent

    def end(self) -> None:
        """Kill it and the trial that it runs, which holds the other end of the connection until it is gone."""
        if self._started is None:
            return
        started, self._started = self._started, None
        started.process.kill()
        started.process.join(PATIENCE_S)
        with started.connection, suppress(EOFError, OSError):
            while started.connection.poll(PATIENCE_S):
                started.connection.recv_bytes()

    def _start(self) -> _Started:
        ours, theirs = Pipe()
        # Spawned, not forked: torch's threads do not survive a fork, and here they may be running already.
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=_serve, args=(os.getpid(), theirs, *self._arguments))
        process.start()
        theirs.close()
        return _Started(process, ours)


def _serve[Trial, Result](
    parent: int, connection: Connection, run: Callable[[Trial], Result], preload: Sequence[str], cores: set[int]
) -> None:
    """In a server: run one trial after another, each in a child."""
    end_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's
    if cores:
        os.sched_setaffinity(0, cores)
    for module in preload:
        import_module(module)
    TELL.set(connection.send)
    while True:
        try:
            trial: Trial = connection.recv()
        except EOFError:
            return
        connection.send(_forked(run, trial) if FORKS else attempted(run, trial))


def _forked[Trial, Result](run: Callable[[Trial], Result], trial: Trial) -> Result | Failed:
    """Its result; what it tells before goes on to whoever asked."""
    reading, writing = Pipe(duplex=False)
    server, child = os.getpid(), os.fork()
    if child == 0:
        _run_and_exit(server, writing, run, trial)
    writing.close()  # the child's: when that is shut, reading ends
    with reading:
        try:
            sent: Result | Failed | Doing | None = reading.recv()
            while isinstance(sent, Doing):
                TELL.get()(sent)
                sent = reading.recv()
        except EOFError:
            sent = None
    _, status = os.waitpid(child, 0)
    return _death(os.waitstatus_to_exitcode(status)) if sent is None else sent


def _run_and_exit[Trial, Result](
    server: int, writing: Connection, run: Callable[[Trial], Result], trial: Trial
) -> NoReturn:
    code = 1
    try:
        end_with_parent(server)
        if "torch" in sys.modules:  # it counted the machine's cores when it was imported
            sys.modules["torch"].set_num_threads(usable_cores())
        TELL.set(writing.send)
        writing.send(attempted(run, trial))
        code = 0
    finally:
        os._exit(code)  # whatever happened, a child must not go on as the server


def _death(code: int) -> Failed:
    how = f"was killed ({signal.Signals(-code).name}; out of memory?)" if code < 0 else f"ended with code {code}"
    return Failed(reason=f"its process {how}", exit_code=DeviceError.exit_code)
