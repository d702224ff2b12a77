"""A process that has imported what opening files takes, and forks a child for each file; it opens none itself.

Linux only: elsewhere frameworks do not survive a fork. `file_process.Forked` is its client. A request is one message
on the socket whose number is the only argument: JSON, and the child's ends of its questions, its answers and its
line. On the line the server says the child's number at once; when the other side of it is shut, the child is killed,
and the line says its exit code. When no more requests can come, this process ends, and with it every child.
"""

from __future__ import annotations

import gc
import json
import os
import selectors
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from rexnet_export.pipeline.machine.child import end_with_parent
from rexnet_export.targets.isolation.preloading import preload
from rexnet_export.targets.isolation.worker import serve

LONGEST_REQUEST = 2**16


def main(argv: Sequence[str]) -> int:
    """`fork_server SOCKET`: fork a child for each request."""
    server = _Server(socket.socket(fileno=int(argv[0])))
    while server.attend():
        pass
    return 0


class _Server:
    def __init__(self, requests: socket.socket) -> None:
        self._requests = requests
        self._lines: dict[socket.socket, int] = {}
        self._loaded: set[str] = set()
        self._ready = selectors.DefaultSelector()
        self._ready.register(requests, selectors.EVENT_READ)

    def attend(self) -> bool:
        """Take what is next: a request, or a child that is to end. False when no requests can come."""
        for key, _ in self._ready.select():
            line = key.fileobj
            assert isinstance(line, socket.socket)
            if line is not self._requests:
                self._end(line)
                continue
            content, descriptors, _, _ = socket.recv_fds(self._requests, LONGEST_REQUEST, 3)
            if not content:
                return False
            self._begin(json.loads(content), descriptors)
        return True

    def _begin(self, request: Mapping[str, str], descriptors: Sequence[int]) -> None:
        self._load(request["target"])
        questions, answers, line = descriptors
        server, child = os.getpid(), os.fork()
        if child == 0:
            self._let_go()
            os.close(line)
            _serve_and_exit(server, request, questions, answers)
        os.close(questions)
        os.close(answers)
        told = socket.socket(fileno=line)
        self._lines[told] = child
        self._ready.register(told, selectors.EVENT_READ)
        with suppress(OSError):  # who asked is gone; the line says that too
            told.send(str(child).encode())

    def _end(self, line: socket.socket) -> None:
        child = self._lines.pop(line)
        self._ready.unregister(line)
        os.kill(child, signal.SIGKILL)  # it may have ended by itself, but its number is its own until it is waited for
        _, status = os.waitpid(child, 0)
        with line, suppress(OSError):
            line.send(str(os.waitstatus_to_exitcode(status)).encode())

    def _load(self, target: str) -> None:
        if target not in self._loaded:
            self._loaded.add(target)
            preload(target)
            gc.freeze()  # a collection in a child would copy every page it looks at

    def _let_go(self) -> None:
        """In a child: close what is the server's."""
        self._ready.close()
        for held in (self._requests, *self._lines):
            held.close()


def _serve_and_exit(server: int, request: Mapping[str, str], questions: int, answers: int) -> None:
    code = 1
    try:
        end_with_parent(server)
        os.chdir(request["folder"])
        with os.fdopen(questions, "rb") as reading, os.fdopen(answers, "wb") as writing:
            serve(request["target"], Path(request["file"]), reading, writing)
        code = 0
    finally:
        os._exit(code)  # whatever happened, a child must not go on as the server


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
