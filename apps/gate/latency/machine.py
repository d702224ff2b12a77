"""What the operating system grants a measurement: processor cores of its own, and the truth about emulation."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rexnet_export.pipeline.core.errors import UsageError
from rexnet_export.pipeline.core.records import Measurement, NotMeasured

PROC = Path("/proc")
UNPINNED = NotMeasured(reason="this system has no way to pin a process to a core")
# Processor names that only a translator of machine code shows.
EMULATED_PROCESSORS = ("QEMU TCG", "VirtualApple")


@contextmanager
def pinned(threads: int) -> Iterator[Measurement[tuple[int, ...]]]:
    """Processes started inside run on the last `threads` cores that this one may use: where interrupts are rare.

    What is pinned before it starts also makes no more threads than there are cores. Where the system refuses, the
    reason is yielded instead of the cores.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield UNPINNED
        return
    before = os.sched_getaffinity(0)
    if threads > len(before):
        raise UsageError(f"--threads {threads}: this process may use {len(before)} cores")
    cores = tuple(sorted(before)[-threads:])
    try:
        os.sched_setaffinity(0, cores)
    except OSError as error:
        yield NotMeasured(reason=f"the system refused to pin a process to core {cores[0]}: {error.strerror}")
        return
    try:
        yield cores
    finally:
        os.sched_setaffinity(0, before)


def emulator(process_id: int, proc: Path = PROC) -> str | None:
    """What translates the machine code of a process, if something does; seen from outside the process.

    qemu hides itself from the program it runs, but `/proc` shows every other process the file that really runs.
    """
    try:
        program = (proc / str(process_id) / "exe").readlink().name
    except OSError:
        program = ""
    if program.startswith("qemu-"):
        return program
    try:
        cpuinfo = (proc / "cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return next((name for name in EMULATED_PROCESSORS if name in cpuinfo), None)
