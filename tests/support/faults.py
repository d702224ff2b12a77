"""Work whose every call to the file system fails, or is the last before a kill, once and in turn."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

type Fault = Literal["kill", "fail"]

# What Python announces before it asks the system; the rest (fsync) is announced by `_announced`.
CALLS = ("rename", "mkdir", "remove", "rmdir", "listdir", "scandir", "truncate")
EVENTS = frozenset(("open", "faults.fsync", *(f"os.{name}" for name in CALLS)))
DONE, REFUSED, UNEXPECTED = 0, 3, 4
MOST_CALLS = 2_000


def at_call(work: Callable[[], object], folder: Path, number: int, fault: Fault) -> int | None:
    """Run the work in a process of its own whose call `number` below the folder is faulted; its exit code.

    Negative: the signal that ended it; None: the work had fewer calls and is done.
    """
    child = os.fork()
    if child == 0:
        os._exit(_child(work, str(folder), number, fault))
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


def _child(work: Callable[[], object], folder: str, number: int, fault: Fault) -> int:
    """The work with its fault; what comes out is DONE, REFUSED for a deliberate failure, UNEXPECTED else."""
    from rexnet_export.pipeline.core.errors import ExportError  # noqa: PLC0415 - the child's own

    seen = -1

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if event not in EVENTS or not (event == "faults.fsync" or _is_below(folder, arguments)):
            return
        seen += 1
        if seen == number:
            if fault == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    fsync = os.fsync

    def announced(descriptor: int) -> None:
        sys.audit("faults.fsync", descriptor)
        fsync(descriptor)

    os.fsync = announced
    sys.addaudithook(hook)
    try:
        work()
    except (ExportError, OSError):
        code = REFUSED
    except BaseException as error:  # noqa: BLE001 - whatever it is, the parent is told
        os.write(2, f"{error!r}\n".encode())
        code = UNEXPECTED
    else:
        code = DONE
    return code if seen >= number else DONE + 100


def _is_below(folder: str, arguments: tuple[Any, ...]) -> bool:
    """Whether a call is about something there; within an open folder Python gives names without one."""
    first = os.fsdecode(arguments[0]) if isinstance(arguments[0], str | bytes | os.PathLike) else ""
    return first.startswith(folder) or (bool(first) and not first.startswith("/"))
