"""A device for one run alone: a lock whose owner is a process there, and a folder that is gone afterwards."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rexnet_export.apps.bench.transports.posix import COMMAND_S, HOME, PID_FILE, RUNTIME, Held, Transport
from rexnet_export.pipeline.core.errors import DeviceError

LOCK, FOLDER = "rexnet-bench.lock", "rexnet-bench-"
RUN_ID = "-".join("[0-9a-f]" * digits for digits in (8, 4, 4, 4, 12))  # as a pattern of the shell
LOCKED_S = 12 * 3600  # for so long a lock is honoured whose owner is no process
MOST_RUN_S = 10 * 3600  # the longest that the runner may take
BUSY = "busy"
ENDING_S = 5.0  # so long may a run whose connection was lost take to clean up after itself

# The lock is a folder with one file, whose name is its owner: process, when that was born, run. So each step is one
# rename or mkdir, which succeeds for one of many only, and nobody takes from another than whom he found dead.
# The keeper lives as long as its standard input is open: as long as the connection and the process that opened it.
KEEPER = f"""
trap '' HUP
birth() {{ s=$(cat "/proc/$1/stat" 2>/dev/null); s=${{s##*) }}; set -- $s; echo "${{20}}"; }}
lives() {{
  p=${{1%%-*}}; b=${{1#*-}}; b=${{b%%-*}}
  case $p in ''|*[!0-9]*) [ -z "$(find "$lock" -maxdepth 0 -mmin +{LOCKED_S // 60})" ]; return;; esac
  if [ -d /proc/self ]; then [ "$(birth "$p")" = "$b" ]; else kill -0 "$p" 2>/dev/null; fi
}}
clean() {{
  p=$(cat "$1/{PID_FILE}" 2>/dev/null)
  if [ -n "$p" ] && [ "$(readlink "/proc/$p/cwd")" = "$1" ]; then kill -9 "$p"; fi
  rm -rf -- "$1"
}}
busy() {{ echo "{BUSY} $1"; exit 1; }}
me="$$-$(birth $$)-$run"
if mkdir "$lock" 2>/dev/null; then (: > "$lock/$me") || {{ rmdir "$lock"; exit 1; }}  # `:` itself would end this shell
else
  [ -d "$lock" ] || {{ mkdir "$lock"; exit 1; }}
  set -- "$lock"/*
  owner=${{1##*/}}
  if [ "$owner" = '*' ]; then
    [ -n "$(find "$lock" -maxdepth 0 -mmin +1)" ] && rmdir "$lock" && mkdir "$lock" && (: > "$lock/$me") || busy unknown
  elif [ $# -gt 1 ]; then
    for other; do lives "${{other##*/}}" || rm -f -- "$other"; done
    busy several
  elif lives "$owner"; then busy "$owner"
  else mv -- "$lock/$owner" "$lock/$me" 2>/dev/null || busy another
  fi
fi
set -- "$lock"/*
[ "$*" = "$lock/$me" ] || {{ rm -f -- "$lock/$me"; busy several; }}
for left in "$root/{FOLDER}"{RUN_ID}; do [ -d "$left" ] && clean "$left"; done
echo "held $$"
cat >/dev/null
clean "$folder"
rm -- "$lock/$me" && rmdir -- "$lock"
"""


@contextmanager
def own_folder(device: Transport, run_id: str) -> Iterator[str]:
    """A folder of this run alone on the device, and the device for this run alone, while the context is open.

    Where this process or its connection ends, however, the device itself ends the run, deletes the folder and gives up
    the lock; where the device went down meanwhile, the next run finds the owner dead.
    """
    root = _writable_root(device)
    lock, folder = f"{root}/{LOCK}", f"{root}/{FOLDER}{run_id}"
    names = {"root": root, "lock": lock, "folder": folder, "run": run_id}
    settings = " ".join(f"{name}={shlex.quote(value)}" for name, value in names.items())
    with _keeper(device, f"{settings}; {KEEPER}", lock) as keeper:
        try:
            made = device.shell(f"umask 077 && mkdir -- {shlex.quote(folder)}", timeout=COMMAND_S)
            if made.code:
                raise DeviceError(f"{device.name}: cannot make {folder}: {made.said()}")
            yield folder
        finally:
            _leave(device, keeper, folder, lock)


def _writable_root(device: Transport) -> str:
    """A folder where nobody else can take names."""
    for root in device.roots:
        where = root if root in {HOME, RUNTIME} else shlex.quote(root)
        private = "case $(ls -ld .) in ????????w*) false;; esac"
        found = device.shell(f"cd {where} && test -w . && {private} && pwd", timeout=COMMAND_S)
        if found.code == 0:
            return found.out.decode("utf-8", "surrogateescape").rstrip("\n")
    known = ", ".join(device.roots)
    raise DeviceError(f"{device.name}: none of {known} can be written to by this user alone; make one of them so")


@contextmanager
def _keeper(device: Transport, script: str, lock: str) -> Iterator[Held]:
    """The process that keeps the lock; an owner that is ending, as one whose connection was lost, is waited for."""
    deadline = time.monotonic() + ENDING_S
    while True:
        with device.held(script) as keeper:
            answer, _, owner = keeper.first_line.partition(" ")
            if answer == "held":
                yield keeper
                return
            if answer != BUSY:
                raise DeviceError(f"{device.name} could not be locked ({keeper.end().said()}); see {lock} there")
        if time.monotonic() > deadline:
            raise DeviceError(f"{device.name} is busy with another run ({owner} in {lock} there); wait for it")
        time.sleep(ENDING_S / 20)


def _leave(device: Transport, keeper: Held, folder: str, lock: str) -> None:
    """Delete what the run left on the device; if that fails too, the error names it and keeps its own cause."""
    try:
        device.remove(folder)
        done = keeper.end()
    except DeviceError as error:
        raise DeviceError(f"{error}. Left on the device: {folder} and {lock}; delete them") from error
    if done.code:
        raise DeviceError(f"{device.name}: the lock {lock} was lost during the run ({done.said()}); run it again")
