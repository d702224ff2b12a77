"""A device for one run alone: a lock that names the run, and a folder that is gone afterwards."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager

from rexnet_export.apps.bench.transports.posix import COMMAND_S, LOCAL, Transport
from rexnet_export.pipeline.core.errors import DeviceError

HOME = "~"
LOCK, FOLDER = "rexnet-bench.lock", "rexnet-bench-"
LOCKED_S = 12 * 3600  # for so long a lock is honoured
# The longest that the runner may take; the rest is for what goes around it: 10 transfers of TRANSFER_S, 20 COMMAND_S.
MOST_RUN_S = 10 * 3600


@contextmanager
def own_folder(device: Transport, run_id: str) -> Iterator[str]:
    """A folder of this run alone on the device, and the device for this run alone, while the context is open.

    A lock older than any run is taken over, and on this machine one whose owner is dead. Whoever lost the lock so
    leaves the new one alone.
    """
    root = _writable_root(device)
    lock, folder = f"{root}/{LOCK}", f"{root}/{FOLDER}{run_id}"
    try:
        _take_lock(device, lock, run_id)
        made = device.shell(f"umask 077 && mkdir {shlex.quote(folder)}", timeout=COMMAND_S)
        if made.code:
            raise DeviceError(f"{device.name}: cannot make {folder}: {made.said()}")
        yield folder
    finally:
        _leave(device, folder, lock, run_id)


def _writable_root(device: Transport) -> str:
    for root in device.roots:
        where = root if root == HOME else shlex.quote(root)
        found = device.shell(f"cd {where} && test -w . && pwd", timeout=COMMAND_S)
        if found.code == 0:
            return found.out.decode("utf-8", "surrogateescape").rstrip("\n") if root == HOME else root
    raise DeviceError(f"{device.name}: none of {', '.join(device.roots)} can be written to")


def _take_lock(device: Transport, lock: str, run_id: str) -> None:
    """The lock is a folder, as `mkdir` makes it for one of many only; a file in it says whose it is."""
    where, owner = shlex.quote(lock), shlex.quote(f"{lock}/{run_id}")
    forget = f'find {where} -maxdepth 0 -mmin +{LOCKED_S // 60} -exec rm -rf "{{}}" ";" 2>/dev/null'
    pid = ""
    if device.name == LOCAL:  # only here is the owner a process that can be asked for
        pid = str(os.getpid())
        dead = f'p=$(cat {where}/* 2>/dev/null) && [ -n "$p" ] && ! ps -p "$p" >/dev/null 2>&1'
        forget = f"{forget}; if {dead}; then rm -rf {where}; fi"
    # In a subshell, as a redirection of `:` that fails ends the shell it is in.
    take = f"mkdir {where} && {{ (echo {pid} > {owner}) || {{ rmdir {where}; false; }}; }}"
    done = device.shell(f"{forget}; {take}", timeout=COMMAND_S)
    if done.code:
        raise DeviceError(
            f"{device.name} is busy with another run, or could not be locked ({done.said()}); wait for it, or delete "
            f"{lock} if none is on"
        )


def _leave(device: Transport, folder: str, lock: str, run_id: str) -> None:
    """Delete what the run left on the device; if that fails too, the error names it and keeps its own cause."""
    try:
        device.remove(folder)
        _release(device, lock, run_id)
    except DeviceError as error:
        raise DeviceError(f"{error}. Left on the device: {folder} and {lock}; delete them") from error


def _release(device: Transport, lock: str, run_id: str) -> None:
    """Only a lock that names this run is removed."""
    where, owner = shlex.quote(lock), shlex.quote(f"{lock}/{run_id}")
    done = device.shell(f"test ! -e {owner} || {{ rm {owner} && rmdir {where}; }}", timeout=COMMAND_S)
    if done.code:
        raise DeviceError(f"{device.name}: cannot delete {lock!r}: {done.said()}")
