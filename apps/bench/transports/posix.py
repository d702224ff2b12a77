"""How files and commands reach a device, and the one implementation that needs no more there than a POSIX shell."""

from __future__ import annotations

import os
import re
import secrets
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol, cast

from rexnet_export.pipeline.core.errors import DeviceError
from rexnet_export.pipeline.core.files import writing
from rexnet_export.pipeline.core.records import file_sha256
from rexnet_export.pipeline.core.text import printable

type Heard = Callable[[str], None]
type Control = dict[str, Any]

COMMAND_S, TRANSFER_S, LEAVE_S = 60.0, 600.0, 5.0  # seconds; no call waits for ever
DIGEST = re.compile(rb"\b[0-9a-f]{64}\b")
PIECE = 2**20
LOCAL = "local"  # the name of this machine as a device
PID_FILE = ".pid"
HOME, RUNTIME = "~", '"${XDG_RUNTIME_DIR:?}"'  # roots that a shell finds


@dataclass(frozen=True, kw_only=True)
class Completed:
    """A command that ended on the device: its exit code and what it wrote."""

    code: int
    out: bytes
    err: bytes

    def said(self) -> str:
        """The last line of what it wrote to standard error, for a message."""
        lines = self.err.decode("utf-8", "replace").strip().splitlines()
        return printable(lines[-1][:300]) if lines else f"exit code {self.code}"


class Held:
    """A command on the device that goes on as long as its standard input is open, and has said one line."""

    def __init__(self, process: subprocess.Popen[bytes], device: str, mark: str, said: IO[bytes]) -> None:
        self._process, self._device, self._mark, self._said = process, device, mark, said
        self._completed: Completed | None = None
        self.first_line = self._line()

    def end(self) -> Completed:
        """Close its standard input and wait for it; `DeviceError` where the connection was lost before."""
        if self._completed is None:
            with suppress(BrokenPipeError):
                cast("IO[bytes]", self._process.stdin).close()
            try:
                self._process.wait(COMMAND_S)
            except subprocess.TimeoutExpired as error:
                raise DeviceError(f"{self._device} gave no answer in {COMMAND_S:g} s; check it") from error
            self._said.seek(0)
            done = Completed(code=self._process.returncode, out=b"", err=self._said.read())
            self._completed = _unmarked(done, self._mark, self._device)
        return self._completed

    def _line(self) -> str:
        stdout = cast("IO[bytes]", self._process.stdout)
        timer = threading.Timer(COMMAND_S, self._process.kill)
        timer.start()
        try:
            return stdout.readline(PIECE).decode("utf-8", "replace").strip()
        finally:
            timer.cancel()


class Transport(Protocol):
    """A device; every failure to reach it is a `DeviceError`."""

    @property
    def name(self) -> str:
        """What the person called it."""

    @property
    def process_kind(self) -> str:
        """How the runner is started there, as the result says it."""

    @property
    def roots(self) -> tuple[str, ...]:
        """Folders in which a run may make its own, the first that can be written to is taken."""

    def connect(self) -> None:
        """Reach the device, or say why not."""

    def info(self) -> dict[str, str]:
        """A few facts to tell it from others."""

    def push(self, source: Path, remote: str) -> None:
        """Send a file, replacing what was there; its digest is compared on the device."""

    def pull(self, remote: str, target: Path, most: int) -> None:
        """Fetch a file of at most `most` bytes."""

    def remove(self, remote: str) -> None:
        """Delete a file or folder, and end what `run` started in it."""

    def run(
        self, argv: Sequence[str], *, cwd: str, environment: Mapping[str, str], timeout: float, heard: Heard
    ) -> Completed:
        """Run a program in a folder; `heard` gets each line of its output as it comes."""

    def shell(self, command: str, *, timeout: float) -> Completed:
        """Run a few words in the device's shell."""

    def held(self, command: str) -> AbstractContextManager[Held]:
        """Run a command that reads its standard input, which stays open while the context and this process do."""

    def controlled(self) -> AbstractContextManager[list[Control]]:
        """Ask for steady clocks while the context is open; the list tells afterwards what came of it."""

    def state(self) -> dict[str, Any]:
        """What the device says of heat and battery, beside what the runner sees."""


@dataclass(frozen=True, kw_only=True)
class PosixTransport:
    """Every call is one command for a shell on the device, started by `prefix`; nothing else is needed there."""

    name: str
    process_kind: str
    roots: tuple[str, ...]
    prefix: tuple[str, ...]

    def connect(self) -> None:
        """Run nothing."""
        done = self.shell("exit 0", timeout=COMMAND_S)
        if done.code:
            raise DeviceError(f"{self.name} runs no commands: {done.said()}")

    def info(self) -> dict[str, str]:
        """System and processor."""
        words = self.shell("uname -s -m", timeout=COMMAND_S).out.decode("utf-8", "replace").split()
        return dict(zip(("system", "machine"), words, strict=False))

    def push(self, source: Path, remote: str) -> None:
        """Through the standard input of `cat`."""
        where = shlex.quote(remote)
        command = f"rm -f -- {where} && cat > {where}"
        with _readable(source) as stream:
            done = self.shell(command, stdin=stream, timeout=TRANSFER_S)
        if done.code:
            raise DeviceError(f"{self.name}: cannot write {remote!r}: {done.said()}")
        self.require_same(source, remote)

    def require_same(self, source: Path, remote: str) -> None:
        """Compare digests of a file here and there."""
        where = shlex.quote(remote)
        done = self.shell(f"sha256sum -- {where} || shasum -a 256 -- {where}", timeout=TRANSFER_S)
        found = DIGEST.search(done.out)
        if found is None or found.group().decode() != file_sha256(source):
            raise DeviceError(f"{self.name}: {remote!r} did not arrive whole (hash mismatch); try again")

    def pull(self, remote: str, target: Path, most: int) -> None:
        """Through the standard output of `head`, and no more than asked for."""
        done = self.shell(f"head -c {most + 1} -- {shlex.quote(remote)}", timeout=TRANSFER_S)
        if done.code:
            raise DeviceError(f"{self.name}: cannot read {remote!r}: {done.said()}")
        if len(done.out) > most:
            raise DeviceError(f"{self.name}: {remote!r} is larger than {most} bytes; it is no result of this tool")
        with writing(target):
            target.write_bytes(done.out)

    def remove(self, remote: str) -> None:
        """End the process that wrote its number there, then delete."""
        where, pid = shlex.quote(remote), shlex.quote(f"{remote}/{PID_FILE}")
        ending = f"if [ -f {pid} ]; then kill -9 $(cat {pid}) 2>/dev/null; fi"
        done = self.shell(f"{ending}; rm -rf -- {where}", timeout=COMMAND_S)
        if done.code:
            raise DeviceError(f"{self.name}: cannot delete {remote!r}: {done.said()}")

    def run(
        self, argv: Sequence[str], *, cwd: str, environment: Mapping[str, str], timeout: float, heard: Heard
    ) -> Completed:
        """Through `env`; the process leaves its number in the folder, for `remove`."""
        settings = [f"{key}={value}" for key, value in environment.items()]
        words = " ".join(shlex.quote(word) for word in ("env", *settings, *argv))
        inner = f"sh -c 'echo $$ > {PID_FILE}; exec \"$@\"' sh {words}"
        # Only a run that was cut off leaves its number: later it may be another process's.
        command = f"cd -- {shlex.quote(cwd)} || exit; {inner}; code=$?; rm -f {PID_FILE}; exit $code"
        return self.shell(command, timeout=timeout, heard=heard)

    @contextmanager
    def held(self, command: str) -> Iterator[Held]:
        """The client's own standard input is the command's."""
        mark, wrapped = _marked(command)
        _require_installed(self.prefix[0], self.name)
        with tempfile.TemporaryFile() as said:
            pipe = subprocess.PIPE
            process = subprocess.Popen(
                (*self.prefix, wrapped), stdin=pipe, stdout=pipe, stderr=said, start_new_session=True, bufsize=0
            )
            try:
                yield Held(process, self.name, mark, said)
            finally:
                with suppress(BrokenPipeError, subprocess.TimeoutExpired):
                    cast("IO[bytes]", process.stdin).close()
                    process.wait(LEAVE_S)
                _end(process)
                cast("IO[bytes]", process.stdout).close()

    def controlled(self) -> AbstractContextManager[list[Control]]:
        """Nothing to ask for: the runner itself keeps to one core."""
        return nullcontext([])

    def state(self) -> dict[str, Any]:
        """Nothing beside what the runner sees."""
        return {}

    def shell(
        self, command: str, *, timeout: float, stdin: IO[bytes] | None = None, heard: Heard | None = None
    ) -> Completed:
        """Run a shell command there. Its exit code comes back at the end of standard error: without it, the connection
        was lost, whatever the client's own exit code is."""
        mark, wrapped = _marked(command)
        done = run_process((*self.prefix, wrapped), timeout=timeout, stdin=stdin, heard=heard, device=self.name)
        return _unmarked(done, mark, self.name)


def _marked(command: str) -> tuple[str, str]:
    """A sign that nothing else writes, and the command that writes it with its exit code behind."""
    mark = f"exit code {secrets.token_hex(8)}:"
    return mark, f"({command}\n); code=$?; printf '%s%d' '{mark}' $code >&2; exit $code"


def _unmarked(done: Completed, mark: str, device: str) -> Completed:
    before, found, after = done.err.rpartition(mark.encode())
    if not found or not after.strip().isdigit():
        raise DeviceError(f"{device}: the connection failed: {done.said()}; check the device and try again")
    return Completed(code=int(after), out=done.out, err=before)


def _readable(source: Path) -> IO[bytes]:
    try:
        return source.open("rb")
    except OSError as error:
        raise DeviceError(f"cannot read {source}: {error.strerror}") from error


def run_process(
    argv: Sequence[str],
    *,
    timeout: float,
    device: str,
    stdin: IO[bytes] | None = None,
    heard: Heard | None = None,
) -> Completed:
    """Run a program here with a time limit; it and its children are ended when time is over or the person stops."""
    _require_installed(argv[0], device)
    process = subprocess.Popen(
        argv,
        stdin=stdin or subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    parts: tuple[list[bytes], list[bytes]] = ([], [])
    problems: list[BaseException] = []
    readers = [
        threading.Thread(target=_collect, args=(process.stdout, parts[0], heard, problems), daemon=True),
        threading.Thread(target=_collect, args=(process.stderr, parts[1], None, problems), daemon=True),
    ]
    for reader in readers:
        reader.start()
    try:
        code = process.wait(timeout)
    except subprocess.TimeoutExpired as error:
        raise DeviceError(f"{device} gave no answer in {timeout:g} s; check it, or allow more time") from error
    finally:
        _end(process)
        for reader in readers:
            reader.join(5)
    if problems:
        raise problems[0]
    return Completed(code=code, out=b"".join(parts[0]), err=b"".join(parts[1]))


def _require_installed(program: str, device: str) -> None:
    if shutil.which(program) is None:
        raise DeviceError(f"{device} needs the command {program!r}, which is not installed here; install it")


def _collect(stream: IO[bytes], parts: list[bytes], heard: Heard | None, problems: list[BaseException]) -> None:
    for line in iter(lambda: stream.readline(PIECE), b""):
        parts.append(line)
        if heard is not None and not problems:
            try:
                heard(line.decode("utf-8", "replace").rstrip("\n"))
            except BaseException as problem:  # noqa: BLE001 - raised again where the process was started
                problems.append(problem)
    stream.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    """A program that is still running is ended with everything it started."""
    if process.poll() is None:
        with suppress(ProcessLookupError):  # it may end by itself meanwhile
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
