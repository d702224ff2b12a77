"""Work whose every call to the file system fails, or is the last before a kill, once and in turn.

A kill changes nothing but what comes after it: what a process killed at some call leaves behind is the folder as it is
at that call, with nobody who holds a lock in it. So the work runs once, and the folder is copied before every call;
one process is really killed, too.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

type Fault = Literal["kill", "fail"]

# What Python announces before it asks the system; the rest (fsync) is announced by `_announced`.
CALLS = ("rename", "mkdir", "remove", "rmdir", "listdir", "scandir", "truncate")
EVENTS = frozenset(("open", "faults.fsync", *(f"os.{name}" for name in CALLS)))
DONE, REFUSED, UNEXPECTED = 0, 3, 4
MOST_CALLS = 2_000


class _Watch(Protocol):
    """What is done at the calls of the work that runs now; Python never forgets a hook, so this one is told."""

    folder: Path

    def at(self) -> None:
        """Before a call."""

    def reached(self) -> bool:
        """Whether the work came to the call that it is about."""


@dataclass
class _Armed:
    """One call is faulted."""

    folder: Path
    number: int
    fault: Fault
    calls: int = -1

    def at(self) -> None:
        self.calls += 1
        if self.calls == self.number:
            if self.fault == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def reached(self) -> bool:
        return self.calls >= self.number


@dataclass
class _Moments:
    """Before every call the folder is copied; None where there is none yet."""

    folder: Path
    copies: Path
    seen: list[Path | None] = field(default_factory=list)

    def at(self) -> None:
        copy = self.copies / str(len(self.seen)) if self.folder.is_dir() else None
        if copy is not None:
            shutil.copytree(self.folder, copy, symlinks=True)
        self.seen.append(copy)

    def reached(self) -> bool:
        return False


_watch: _Watch | None = None
_hooked = False


def at_call(work: Callable[[], object], folder: Path, number: int, fault: Fault) -> int | None:
    """Run the work whose call `number` below the folder is faulted; its exit code.

    What is killed is a process of its own. Negative: the signal that ended it; None: the work had fewer calls and is
    done.
    """
    if fault == "fail":
        code = _ended(work, _Armed(folder, number, fault))
    else:
        child = os.fork()
        if child == 0:
            os._exit(_ended(work, _Armed(folder, number, fault)))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return None if code == DONE + 100 else code


def at_every_call(
    prepare: Callable[[], object],
    work: Callable[[], object],
    check: Callable[[], object],
    folder: Path,
    fault: Fault,
) -> int:
    """Prepare, run the work with one call faulted, and check, for each of its calls; how many there were.

    Of a kill, what the check looks at has to be below the folder.
    """
    if fault == "kill":
        return _killed_at_every_call(prepare, work, check, folder)
    for number in range(MOST_CALLS):
        prepare()
        code = at_call(work, folder, number, fault)
        if code is None:
            return number
        assert code in {DONE, REFUSED}, f"call {number}: exit code {code}"
        _checked(check, number, fault)
    raise AssertionError(f"more than {MOST_CALLS} calls")


def _killed_at_every_call(
    prepare: Callable[[], object], work: Callable[[], object], check: Callable[[], object], folder: Path
) -> int:
    with tempfile.TemporaryDirectory() as name:
        prepare()
        moments = _Moments(folder, Path(name))
        assert _ended(work, moments) == DONE + 100
        for number, moment in enumerate(moments.seen):
            shutil.rmtree(folder, ignore_errors=True)
            if moment is not None:
                shutil.copytree(moment, folder, symlinks=True)
            _checked(check, number, "kill")
    prepare()
    assert at_call(work, folder, len(moments.seen) // 2, "kill") == -signal.SIGKILL
    _checked(check, len(moments.seen) // 2, "kill")
    return len(moments.seen)


def _checked(check: Callable[[], object], number: int, fault: Fault) -> None:
    try:
        check()
    except AssertionError as error:
        raise AssertionError(f"call {number}, {fault}: {error}") from error


def _ended(work: Callable[[], object], watch: _Watch) -> int:
    """The work as it is watched; what comes out is DONE, REFUSED for a deliberate failure, UNEXPECTED else."""
    from rexnet_export.pipeline.core.errors import ExportError  # noqa: PLC0415 - the child's own

    global _watch, _hooked  # noqa: PLW0603 - as the hook is the interpreter's
    fsync = os.fsync

    def announced(descriptor: int) -> None:
        sys.audit("faults.fsync", descriptor)
        fsync(descriptor)

    if not _hooked:
        sys.addaudithook(_hook)
        _hooked = True
    os.fsync, _watch = announced, watch
    try:
        work()
    except (ExportError, OSError):
        code = REFUSED
    except BaseException as error:  # noqa: BLE001 - whatever it is, the caller is told
        os.write(2, f"{error!r}\n".encode())
        code = UNEXPECTED
    else:
        code = DONE
    finally:
        os.fsync, _watch = fsync, None
    return code if watch.reached() else code + 100


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    global _watch  # noqa: PLW0603 - what it does itself is not watched
    watch = _watch
    if watch is None or event not in EVENTS:
        return
    if not (event == "faults.fsync" or _is_below(str(watch.folder), arguments)):
        return
    _watch = None
    try:
        watch.at()
    finally:
        _watch = watch


def _is_below(folder: str, arguments: tuple[Any, ...]) -> bool:
    """Whether a call is about something there; within an open folder Python gives names without one."""
    first = os.fsdecode(arguments[0]) if isinstance(arguments[0], str | bytes | os.PathLike) else ""
    return first.startswith(folder) or (bool(first) and not first.startswith("/"))
