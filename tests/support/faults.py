"""Work whose every call to the file system fails, or is the last before a kill, once and in turn."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

type Fault = Literal["kill", "fail"]

# What Python announces before it asks the system; the rest (fsync) is announced by `_announced`.
CALLS = ("rename", "mkdir", "remove", "rmdir", "listdir", "scandir", "truncate")
EVENTS = frozenset(("open", "faults.fsync", *(f"os.{name}" for name in CALLS)))
DONE, REFUSED, UNEXPECTED = 0, 3, 4
MOST_CALLS = 2_000


@dataclass
class _Armed:
    """Which call of the work that runs now is faulted; Python never forgets a hook, so this one is told."""

    folder: str
    number: int
    fault: Fault
    seen: int = -1


_armed: _Armed | None = None
_hooked = False


def at_call(work: Callable[[], object], folder: Path, number: int, fault: Fault) -> int | None:
    """Run the work whose call `number` below the folder is faulted; its exit code.

    What is killed is a process of its own. Negative: the signal that ended it; None: the work had fewer calls and is
    done.
    """
    if fault == "fail":
        code = _ended(work, _Armed(str(folder), number, fault))
    else:
        child = os.fork()
        if child == 0:
            os._exit(_ended(work, _Armed(str(folder), number, fault)))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return None if code == DONE + 100 else code


def at_every_call(
    prepare: Callable[[], object],
    work: Callable[[], object],
    check: Callable[[], object],
    folder: Path,
    fault: Fault,
) -> int:
    """Prepare, run the work with one call faulted, and check, for each of its calls; how many there were."""
    for number in range(MOST_CALLS):
        prepare()
        code = at_call(work, folder, number, fault)
        if code is None:
            return number
        allowed = {-signal.SIGKILL} if fault == "kill" else {DONE, REFUSED}
        assert code in allowed, f"call {number}: exit code {code}"
        try:
            check()
        except AssertionError as error:
            raise AssertionError(f"call {number}, {fault}: {error}") from error
    raise AssertionError(f"more than {MOST_CALLS} calls")


def _ended(work: Callable[[], object], armed: _Armed) -> int:
    """The work with its fault; what comes out is DONE, REFUSED for a deliberate failure, UNEXPECTED else."""
    from rexnet_export.pipeline.core.errors import ExportError  # noqa: PLC0415 - the child's own

    global _armed, _hooked  # noqa: PLW0603 - as the hook is the interpreter's
    fsync = os.fsync

    def announced(descriptor: int) -> None:
        sys.audit("faults.fsync", descriptor)
        fsync(descriptor)

    if not _hooked:
        sys.addaudithook(_hook)
        _hooked = True
    os.fsync, _armed = announced, armed
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
        os.fsync, _armed = fsync, None
    return code if armed.seen >= armed.number else DONE + 100


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _armed is None or event not in EVENTS:
        return
    if not (event == "faults.fsync" or _is_below(_armed.folder, arguments)):
        return
    _armed.seen += 1
    if _armed.seen == _armed.number:
        if _armed.fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def _is_below(folder: str, arguments: tuple[Any, ...]) -> bool:
    """Whether a call is about something there; within an open folder Python gives names without one."""
    first = os.fsdecode(arguments[0]) if isinstance(arguments[0], str | bytes | os.PathLike) else ""
    return first.startswith(folder) or (bool(first) and not first.startswith("/"))
