"""The process that a file is opened in: started for it, or forked from one that has imported what it needs."""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO, Protocol

from rexnet_export.pipeline.machine import child

LONGEST_NUMBER = 32


class FileProcess(Protocol):
    """One file's process, asked through `questions` and `answers`."""

    questions: IO[bytes]
    answers: IO[bytes]

    @property
    def pid(self) -> int:
        """Its number; waits until there is one."""

    def kill(self) -> None:
        """Have it end; from any thread."""

    def end(self) -> int:
        """Kill it and wait for it; its exit code, negative for a signal, and its own where it had ended before."""


class Spawned:
    """A process of its own from the start: nothing that others did is in it, and it runs where its starter may."""

    def __init__(self, target: str, path: Path, threads: int | None = None) -> None:
        arguments = (target, str(path), *(() if threads is None else (str(threads),)))
        # A session of its own: Ctrl-C reaches the parent alone, which then closes this.
        self._process = subprocess.Popen(
            child.command("rexnet_export.targets.isolation.worker", *arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self.questions, self.answers = self._process.stdin, self._process.stdout

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    def kill(self) -> None:
        """Have it end."""
        self._process.kill()

    def end(self) -> int:
        """Kill it and wait for it; its exit code."""
        self._process.kill()
        return self._process.wait()


class Forked:
    """A child of the `fork_server` that this program has; the first of them starts it."""

    def __init__(self, target: str, path: Path) -> None:
        (asked, self.questions), (self.answers, answered) = _pipe(), _pipe()
        self._line, line = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._pid: int | None = None
        self._code: int | None = None
        request = json.dumps({"target": target, "file": str(path), "folder": str(Path.cwd())}).encode()
        with asked, answered, line:
            _ask(request, [asked.fileno(), answered.fileno(), line.fileno()])

    @property
    def pid(self) -> int:
        """Its number; waits until there is one."""
        if self._pid is None:
            self._pid = int(self._line.recv(LONGEST_NUMBER) or 0)
        return self._pid

    def kill(self) -> None:
        """Have it end."""
        with suppress(OSError):  # it has
            self._line.shutdown(socket.SHUT_WR)

    def end(self) -> int:
        """Kill it and wait for it; its exit code, that of a kill where the server itself is gone."""
        if self._code is None:
            self.kill()
            with self._line:
                said = self._line.recv(LONGEST_NUMBER) if self.pid else b""
            self._code = int(said or -signal.SIGKILL)
        return self._code


class _Server:
    """The fork server of this program."""

    def __init__(self) -> None:
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-P", "-m", "rexnet_export.targets.isolation.fork_server", str(theirs.fileno())]
        with theirs:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        atexit.register(self.close)

    def ask(self, request: bytes, descriptors: Sequence[int]) -> None:
        """Send one request."""
        socket.send_fds(self._requests, [request], descriptors)

    def close(self) -> None:
        """End it, whatever it is importing, and its children with it."""
        self._requests.close()
        self._process.kill()
        self._process.wait()


@cache
def _server(_: int) -> _Server:
    """That of the process with this number: a forked copy of this one starts its own."""
    return _Server()


def _ask(request: bytes, descriptors: Sequence[int]) -> None:
    server = _server(os.getpid())
    try:
        server.ask(request, descriptors)
    except (BrokenPipeError, ConnectionResetError):  # killed, perhaps because memory was short
        server.close()
        _server.cache_clear()
        _server(os.getpid()).ask(request, descriptors)


def _pipe() -> tuple[IO[bytes], IO[bytes]]:
    reading, writing = os.pipe()
    return os.fdopen(reading, "rb"), os.fdopen(writing, "wb")


def start(target: str, path: Path, threads: int | None = None) -> FileProcess:
    """A process for one file. What is to be timed, or runs on so many `threads`, gets one started for it alone."""
    return Forked(target, path) if threads is None and sys.platform == "linux" else Spawned(target, path, threads)
