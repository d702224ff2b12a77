"""Android devices, and whatever else runs an adbd, through the adb client."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rexnet_export.apps.bench.transports.posix import (
    COMMAND_S,
    HOME,
    TRANSFER_S,
    Completed,
    Control,
    Heard,
    Held,
    PosixTransport,
    run_process,
)
from rexnet_export.pipeline.core.errors import DeviceError, UsageError

SERIAL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]*")
ROOTS = ("/data/local/tmp", HOME, "/run")  # the first is Android's; nobody but the shell writes there
FIXED_PERFORMANCE = "cmd power set-fixed-performance-mode-enabled"
DISCHARGING = {3, 4}  # android.os.BatteryManager: discharging, not charging


@dataclass(frozen=True, kw_only=True)
class AdbTransport:
    """The shell of adb for commands (protocol v2: exit codes, standard error apart), its sync service for files."""

    name: str
    client: tuple[str, ...]
    posix: PosixTransport
    process_kind: str
    roots: tuple[str, ...]

    def connect(self) -> None:
        """The device is there, authorised, and its shell tells exit codes."""
        done = run_process((*self.client, "get-state"), timeout=COMMAND_S, device=self.name)
        if done.code:
            raise DeviceError(f"{self.name}: {done.said()}; see rexnet-bench devices")
        features = run_process((*self.client, "features"), timeout=COMMAND_S, device=self.name)
        if b"shell_v2" not in features.out.split():
            raise DeviceError(f"{self.name}: its adbd has no shell protocol v2 (Android 7 or newer has)")
        self.posix.connect()

    def info(self) -> dict[str, str]:
        """System, processor, and the model where it is Android."""
        model = self.posix.shell("getprop ro.product.model", timeout=COMMAND_S)
        name = model.out.decode("utf-8", "replace").strip() if not model.code else ""
        return self.posix.info() | ({"model": name} if name else {})

    def push(self, source: Path, remote: str) -> None:
        """By `adb push`, after the old file is gone."""
        self.posix.remove(remote)
        self._transfer("push", str(source), remote, "write")
        self.posix.require_same(source, remote)

    def pull(self, remote: str, target: Path, most: int) -> None:
        """Through the shell: `adb pull` would take any size."""
        self.posix.pull(remote, target, most)

    def remove(self, remote: str) -> None:
        """Through the shell."""
        self.posix.remove(remote)

    def run(
        self, argv: Sequence[str], *, cwd: str, environment: Mapping[str, str], timeout: float, heard: Heard
    ) -> Completed:
        """Through the shell."""
        return self.posix.run(argv, cwd=cwd, environment=environment, timeout=timeout, heard=heard)

    def shell(self, command: str, *, timeout: float) -> Completed:
        """As it stands."""
        return self.posix.shell(command, timeout=timeout)

    def held(self, command: str) -> AbstractContextManager[Held]:
        """Through the shell."""
        return self.posix.held(command)

    def controlled(self) -> AbstractContextManager[list[Control]]:
        """Fixed-performance mode (Android 11 and newer) while the context is open."""
        return fixed_performance(self.posix)

    def state(self) -> dict[str, Any]:
        """Battery and thermal status by `dumpsys`; nothing where there is none."""
        battery = self.posix.shell("dumpsys battery", timeout=COMMAND_S)
        thermal = self.posix.shell("dumpsys thermalservice", timeout=COMMAND_S)
        found = {} if battery.code else battery_state(battery.out.decode("utf-8", "replace"))
        return found | ({} if thermal.code else thermal_state(thermal.out.decode("utf-8", "replace")))

    def _transfer(self, verb: str, source: str, target: str, doing: str) -> None:
        done = run_process((*self.client, verb, source, target), timeout=TRANSFER_S, device=self.name)
        if done.code:
            raise DeviceError(f"{self.name}: cannot {doing} {target!r}: {done.said()}")


@contextmanager
def fixed_performance(shell: PosixTransport) -> Iterator[list[Control]]:
    """Ask for steady clocks and switch the mode off again, whatever happens; the record says what came of both."""
    record: Control = {
        "name": "fixed_performance_mode",
        "asked": True,
        "applied": False,
        "restored": None,
        "error": None,
    }
    done = shell.shell(f"{FIXED_PERFORMANCE} true", timeout=COMMAND_S)
    record["applied"] = done.code == 0
    record["error"] = f"refused: {done.said()}" if done.code else None
    try:
        yield [record]
    finally:
        # Asked for even where the first answer was a failure: it may have come after the switch.
        try:
            restored = shell.shell(f"{FIXED_PERFORMANCE} false", timeout=COMMAND_S).code == 0
            record["restored"] = restored if record["applied"] else None
        except DeviceError as error:
            record["restored"] = False
            record["error"] = str(error)


def battery_state(text: str) -> dict[str, Any]:
    """Of `dumpsys battery`: percent, degrees Celsius, and whether it takes power."""
    values = dict(re.findall(r"^\s*([A-Za-z ]+): (\S+)\s*$", text, re.MULTILINE))
    found: dict[str, Any] = {}
    if values.get("level", "").isdigit():
        found["battery_pct"] = int(values["level"])
    if values.get("temperature", "").lstrip("-").isdigit():
        found["battery_temp_c"] = int(values["temperature"]) / 10
    if values.get("status", "").isdigit():
        found["charging"] = int(values["status"]) not in DISCHARGING
    return found


def thermal_state(text: str) -> dict[str, Any]:
    """Of `dumpsys thermalservice`: 0 (none) to 6 (shutdown)."""
    match = re.search(r"^\s*Thermal Status: (\d)\s*$", text, re.MULTILINE)
    return {"thermal_status": int(match.group(1))} if match else {}


def adb(device: str) -> AdbTransport:
    """`adb` for the only device, `adb:SERIAL` for one of several."""
    serial = device.removeprefix("adb:") if device != "adb" else ""
    if device != "adb" and (not device.startswith("adb:") or not SERIAL.fullmatch(serial)):
        raise UsageError(f"--device {device!r} is not of the form adb or adb:SERIAL; see rexnet-bench devices")
    client = ("adb", "-s", serial) if serial else ("adb",)
    posix = PosixTransport(name=device, process_kind="shell", roots=ROOTS, prefix=(*client, "shell", "-T"))
    return AdbTransport(name=device, client=client, posix=posix, process_kind="shell", roots=ROOTS)


def listed() -> list[tuple[str, str]]:
    """Serial and state of every device the adb server knows; none without an adb client."""
    if shutil.which("adb") is None:
        return []
    done = run_process(("adb", "devices"), timeout=COMMAND_S, device="adb")
    if done.code:
        raise DeviceError(f"adb devices: {done.said()}")
    lines = (line.split("\t") for line in done.out.decode("utf-8", "replace").splitlines())
    return [(line[0], line[1]) for line in lines if len(line) == 2]
