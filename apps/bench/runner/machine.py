"""What the device is: facts for its fingerprint, never a serial number."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

SYSTEM = Path("/")
PROPERTIES = {
    "manufacturer": "ro.product.manufacturer",
    "model": "ro.product.model",
    "board": "ro.product.board",
    "soc": "ro.soc.model",
    "os_version": "ro.build.version.release",
    "build_id": "ro.build.fingerprint",
}
HWCAP, HWCAP2 = 16, 26  # keys of getauxval
ARM_HWCAP = {"asimd": 1 << 1, "fphp": 1 << 9, "asimdhp": 1 << 10, "dotprod": 1 << 20, "sve": 1 << 22}
ARM_HWCAP2 = {"sve2": 1 << 1, "i8mm": 1 << 13, "bf16": 1 << 14, "sme": 1 << 23}
X86_FLAGS = ("sse4_1", "avx", "avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8")
GIB = 2**30


def identify(emulator: str | None, system: Path = SYSTEM) -> dict[str, Any]:
    """The `device` group; `emulator` is what the host knows of one, beside what can be seen from inside."""
    emulator = emulator or emulated_by(system)
    properties = _android_properties()
    release = _release(system)
    facts: dict[str, Any] = {
        "kind": _kind(emulator, properties),
        "manufacturer": properties.get("manufacturer") or _text(system / "sys/class/dmi/id/sys_vendor"),
        "model": properties.get("model") or _model(system),
        "soc": properties.get("soc") or _soc(system, emulator),
        "board": properties.get("board") or _text(system / "sys/class/dmi/id/board_name"),
        "os_version": properties.get("os_version") or release,
        "build_id": properties.get("build_id"),
        "kernel": platform.release() or None,
        "arch": platform.machine(),
        # Inside an emulator /proc/cpuinfo may be the host's.
        "cpu_parts": [] if emulator else _cpu_parts(system),
        "isa_flags": _isa_flags(system),
        "ram_bytes": _meminfo(system).get("MemTotal"),
        "serial_hash": None,
        "emulator": emulator,
    }
    inputs = {key: facts[key] for key in ("manufacturer", "model", "soc", "cpu_parts", "os_version", "build_id")}
    inputs["ram_gib"] = -(-facts["ram_bytes"] // GIB) if facts["ram_bytes"] else None
    inputs["emulator"] = emulator
    return fingerprint(inputs) | facts


def fingerprint(inputs: dict[str, Any]) -> dict[str, Any]:
    """What tells one kind of device from another, and its digest."""
    digest = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
    return {"fingerprint": digest, "fingerprint_inputs": inputs}


def emulated_by(system: Path = SYSTEM) -> str | None:
    """What can be seen of an emulator from inside: under qemu-user the process has qemu's name."""
    name = _text(system / "proc/self/comm") or ""
    if name.startswith("qemu-"):
        return "qemu-user"
    return None


def environment(system: Path = SYSTEM) -> dict[str, Any]:
    """The device's state now; what it does not say is null or an empty list."""
    status = _fields(system / "proc/self/status")
    battery = next(iter(sorted((system / "sys/class/power_supply").glob("*/capacity"))), None)
    cpus = sorted((system / "sys/devices/system/cpu").glob("cpu[0-9]*"), key=lambda path: int(path.name[3:]))
    temperatures = [_integer(zone) for zone in sorted((system / "sys/class/thermal").glob("thermal_zone*/temp"))]
    throttles = [_integer(cpu / "thermal_throttle/core_throttle_count") for cpu in cpus]
    counted = [count for count in throttles if count is not None]
    battery_temperature = _integer(battery.parent / "temp") if battery else None
    return {
        "temps_c": [value / 1000 for value in temperatures if value is not None],
        "thermal_status": None,
        "battery_pct": _integer(battery) if battery else None,
        "battery_temp_c": battery_temperature / 10 if battery_temperature is not None else None,
        "charging": (_text(battery.parent / "status") in ("Charging", "Full")) if battery else None,
        "loadavg_1m": _load(),
        "cpu_freq_khz": [f for cpu in cpus if (f := _integer(cpu / "cpufreq/scaling_cur_freq")) is not None],
        "governor": [g for cpu in cpus if (g := _text(cpu / "cpufreq/scaling_governor"))],
        "time_in_state": {cpu.name: state for cpu in cpus if (state := _time_in_state(cpu))},
        "mem_available_bytes": _meminfo(system).get("MemAvailable"),
        "throttle_events": sum(counted) if counted else None,
        "voluntary_ctxt_switches": _count(status.get("voluntary_ctxt_switches")),
        "nonvoluntary_ctxt_switches": _count(status.get("nonvoluntary_ctxt_switches")),
    }


def changes(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """What went up between two environments; `time_in_state_delta` is in 10 ms units by clock in kHz."""
    delta: dict[str, Any] = {}
    for key in ("throttle_events", "voluntary_ctxt_switches", "nonvoluntary_ctxt_switches", "mem_available_bytes"):
        both = before[key] is not None and after[key] is not None
        delta[key] = after[key] - before[key] if both else None
    delta["time_in_state_delta"] = {
        cpu: {clock: ticks - before["time_in_state"].get(cpu, {}).get(clock, 0) for clock, ticks in states.items()}
        for cpu, states in after["time_in_state"].items()
    }
    return delta


def resident_bytes(system: Path = SYSTEM) -> int | None:
    """Memory of this process that is in RAM now."""
    value = _fields(system / "proc/self/status").get("VmRSS", "")
    return int(value.split()[0]) * 1024 if value else None


def _kind(emulator: str | None, properties: dict[str, str]) -> str:
    if emulator:
        return "emulated"
    if properties:
        return "android"
    return "macos" if sys.platform == "darwin" else "linux"


def _android_properties() -> dict[str, str]:
    found = {}
    for key, name in PROPERTIES.items():
        try:
            done = subprocess.run(["getprop", name], capture_output=True, timeout=10, check=False)  # noqa: S607
        except (OSError, subprocess.TimeoutExpired):
            return {}
        found[key] = done.stdout.decode("utf-8", "replace").strip()
    return found if any(found.values()) else {}


def _model(system: Path) -> str | None:
    return _text(system / "proc/device-tree/model") or _text(system / "sys/class/dmi/id/product_name")


def _soc(system: Path, emulator: str | None) -> str | None:
    compatible = _text(system / "proc/device-tree/compatible")
    if compatible:
        return compatible.split("\0")[-1]
    fields = {} if emulator else _fields(system / "proc/cpuinfo")
    return fields.get("Hardware") or fields.get("model name")


def _cpu_parts(system: Path) -> list[dict[str, Any]]:
    """Processors that are alike, counted; ARM names them by implementer and part, x86 by vendor and family/model."""
    counts: dict[tuple[str | None, ...], int] = {}
    for block in _read(system / "proc/cpuinfo").split("\n\n"):
        fields = _parsed(block)
        if "processor" not in fields:
            continue
        x86 = "vendor_id" in fields
        part = f"{fields.get('cpu family')}/{fields.get('model')}" if x86 else fields.get("CPU part")
        implementer = fields.get("vendor_id") if x86 else fields.get("CPU implementer")
        variant = fields.get("stepping") if x86 else fields.get("CPU variant")
        clock = _text(system / f"sys/devices/system/cpu/cpu{fields['processor']}/cpufreq/cpuinfo_max_freq")
        key = (implementer, part, variant, clock)
        counts[key] = counts.get(key, 0) + 1
    return [
        {
            "implementer": implementer,
            "part": part,
            "variant": variant,
            "count": count,
            "max_freq_khz": _count(clock),
        }
        for (implementer, part, variant, clock), count in counts.items()
    ]


def _isa_flags(system: Path) -> list[str]:
    if platform.machine() in ("aarch64", "arm64"):
        try:
            getauxval = ctypes.CDLL(None).getauxval
        except (OSError, AttributeError):
            return []
        getauxval.restype = ctypes.c_ulong
        getauxval.argtypes = [ctypes.c_ulong]
        first, second = getauxval(HWCAP), getauxval(HWCAP2)
        return [f for f, bit in ARM_HWCAP.items() if first & bit] + [f for f, bit in ARM_HWCAP2.items() if second & bit]
    flags = set(_fields(system / "proc/cpuinfo").get("flags", "").split())
    return [flag for flag in X86_FLAGS if flag in flags]


def _release(system: Path) -> str | None:
    for line in _read(system / "etc/os-release").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip('"')
    return platform.mac_ver()[0] or None


def _load() -> float | None:
    try:
        return os.getloadavg()[0]
    except (OSError, AttributeError):
        return None


def _meminfo(system: Path) -> dict[str, int]:
    entries = _fields(system / "proc/meminfo")
    return {key: int(value.split()[0]) * 1024 for key, value in entries.items() if value.endswith("kB")}


def _time_in_state(cpu: Path) -> dict[str, int]:
    lines = [line.split() for line in _read(cpu / "cpufreq/stats/time_in_state").splitlines()]
    return {pair[0]: int(pair[1]) for pair in lines if len(pair) == 2 and pair[1].isdigit()}


def _fields(path: Path) -> dict[str, str]:
    return _parsed(_read(path))


def _parsed(text: str) -> dict[str, str]:
    """`key : value` lines; of several with one key the first."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            fields.setdefault(key.strip(), value.strip())
    return fields


def _count(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None


def _integer(path: Path) -> int | None:
    text = _text(path)
    try:
        return int(text) if text else None
    except ValueError:
        return None


def _text(path: Path) -> str | None:
    return _read(path).strip().strip("\0") or None


def _read(path: Path) -> str:
    """The file's text; nothing where it is missing or may not be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
