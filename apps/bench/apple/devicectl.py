"""What Xcode's `devicectl` knows of phones and tablets on this Mac.

Not run on Apple hardware: the answers' form is from Apple's and coremltools' documentation.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rexnet_export.apps.bench.transports.posix import COMMAND_S, run_process
from rexnet_export.pipeline.core.errors import ConversionError, DeviceError
from rexnet_export.pipeline.core.strict_json import strict_loads

XCRUN = "xcrun"
MOST_BYTES = 2**24  # of an answer
KINDS = {"iPhone": "ios", "iPad": "ios"}


@dataclass(frozen=True, kw_only=True)
class AppleDevice:
    """A device that `devicectl` lists; `identifier` is CoreDevice's, not a serial number."""

    identifier: str
    type: str
    model: str
    arch: str
    os_version: str
    build: str
    state: str


def find_devicectl() -> Path | None:
    """The program as Xcode has it; None where there is no Xcode."""
    if shutil.which(XCRUN) is None:
        return None
    found = run_process((XCRUN, "--find", "devicectl"), timeout=COMMAND_S, device=XCRUN)
    return None if found.code else Path(found.out.decode("utf-8", "replace").strip())


def listed() -> list[AppleDevice]:
    """Every device that `devicectl` knows, connected or not; none without Xcode."""
    if find_devicectl() is None:
        return []
    with tempfile.TemporaryDirectory(prefix="rexnet-devices-") as folder:
        # In a file, as standard output is for people.
        answer = Path(folder) / "answer.json"
        command = (XCRUN, "devicectl", "list", "devices", "--json-output", str(answer))
        done = run_process(command, timeout=COMMAND_S, device=XCRUN)
        if done.code or not answer.exists():
            raise DeviceError(f"devicectl list devices: {done.said()}; open Xcode once and try again")
        return parse_devices(answer.read_text(encoding="utf-8", errors="replace"))


def parse_devices(text: str) -> list[AppleDevice]:
    """The JSON answer of `devicectl list devices`."""
    try:
        answer: Any = strict_loads(text, MOST_BYTES)
        outcome = answer["info"]["outcome"]
        if outcome != "success":
            raise DeviceError(f"devicectl says {outcome!r}; connect the device and trust this Mac")
        return [_device(entry) for entry in answer["result"]["devices"]]
    except (ConversionError, KeyError, TypeError, AttributeError) as error:
        raise DeviceError(f"devicectl's answer is not understood ({error!r}); check the version of Xcode") from error


def _device(entry: Mapping[str, Any]) -> AppleDevice:
    """What a device was not yet asked for, because it never was connected, is unknown."""
    hardware, properties = entry["hardwareProperties"], entry["deviceProperties"]
    return AppleDevice(
        identifier=str(entry["identifier"]),
        type=str(hardware.get("deviceType", "unknown")),
        model=str(hardware.get("productType", "unknown")),
        arch=str(hardware.get("cpuType", {}).get("name", "unknown")),
        os_version=str(properties.get("osVersionNumber", "unknown")),
        build=str(properties.get("osBuildUpdate", "unknown")),
        state=str(entry["connectionProperties"].get("tunnelState", "unknown")),
    )
