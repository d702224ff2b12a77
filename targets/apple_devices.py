"""Apple devices: commands for Xcode's `devicectl`, what it answers, and which unit Core ML plans for each operation.

Not run on Apple hardware: the commands and the answers' form are from Apple's and coremltools' documentation.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from rexnet_export.pipeline.errors import DeviceError

DEVICECTL = ("xcrun", "devicectl")
UNITS = {"MLNeuralEngineComputeDevice": "neural engine", "MLGPUComputeDevice": "gpu", "MLCPUComputeDevice": "cpu"}


@dataclass(frozen=True, kw_only=True)
class AppleDevice:
    """A device that `devicectl` lists; `identifier` is CoreDevice's, not a serial number."""

    identifier: str
    name: str
    model: str
    os_version: str
    connected: bool


class Plan(Protocol):
    """What of `coremltools.models.compute_plan.MLComputePlan` is asked."""

    def get_compute_device_usage_for_mlprogram_operation(self, operation: Any) -> Any:  # noqa: ANN401
        """Its `preferred_compute_device` is the one Core ML means to use; None for constants."""


def list_arguments(answer: Path) -> tuple[str, ...]:
    """List devices; the answer is JSON in a file, as standard output is for people."""
    return (*DEVICECTL, "list", "devices", "--json-output", str(answer))


def copy_to_arguments(device: str, bundle_id: str, source: Path, destination: str) -> tuple[str, ...]:
    """Copy a file into an app's container."""
    return _copy("to", device, bundle_id, str(source), destination)


def copy_from_arguments(device: str, bundle_id: str, source: str, destination: Path) -> tuple[str, ...]:
    """Copy a file out of an app's container."""
    return _copy("from", device, bundle_id, source, str(destination))


def launch_arguments(device: str, bundle_id: str) -> tuple[str, ...]:
    """Start an app and stay until it ends."""
    return (*DEVICECTL, "device", "process", "launch", "--console", "--device", device, bundle_id)


def parse_devices(text: str) -> list[AppleDevice]:
    """The answer to `list_arguments`."""
    try:
        answer = json.loads(text)
        outcome, entries = answer["info"]["outcome"], answer["result"]["devices"]
        devices = [_device(entry) for entry in entries]
    except (ValueError, KeyError, TypeError) as error:
        raise DeviceError(f"devicectl's answer is not understood ({error!r}); check the version of Xcode") from error
    if outcome != "success":
        raise DeviceError(f"devicectl says {outcome!r}; connect the device and trust this Mac")
    return devices


def units(plan: Plan, operations: Iterable[object]) -> Mapping[str, int]:
    """How many operations Core ML plans for each unit; constants run nowhere."""
    counts: Counter[str] = Counter()
    for operation in operations:
        usage = plan.get_compute_device_usage_for_mlprogram_operation(operation)
        if usage is not None:
            kind = type(usage.preferred_compute_device).__name__
            counts[UNITS.get(kind, kind)] += 1
    return dict(counts)


def _copy(direction: str, device: str, bundle_id: str, source: str, destination: str) -> tuple[str, ...]:
    domain = ("--domain-type", "appDataContainer", "--domain-identifier", bundle_id)
    ends = ("--source", source, "--destination", destination)
    return (*DEVICECTL, "device", "copy", direction, "--device", device, *domain, *ends)


def _device(entry: Mapping[str, Any]) -> AppleDevice:
    return AppleDevice(
        identifier=str(entry["identifier"]),
        name=str(entry["deviceProperties"]["name"]),
        model=str(entry["hardwareProperties"]["productType"]),
        os_version=str(entry["deviceProperties"]["osVersionNumber"]),
        connected=entry["connectionProperties"].get("tunnelState") == "connected",
    )
