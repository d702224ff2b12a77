import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from rexnet_export.pipeline.errors import DeviceError
from rexnet_export.targets.apple_devices import (
    AppleDevice,
    copy_from_arguments,
    copy_to_arguments,
    launch_arguments,
    list_arguments,
    parse_devices,
    units,
)

# The documented form of `devicectl list devices --json-output`, shortened; not recorded from a device.
ANSWER = {
    "info": {"outcome": "success", "jsonVersion": 2},
    "result": {
        "devices": [
            {
                "identifier": "0A1B2C3D-0000-4000-8000-000000000001",
                "connectionProperties": {"tunnelState": "connected", "transportType": "wired"},
                "deviceProperties": {"name": "Ann's iPhone", "osVersionNumber": "18.1"},
                "hardwareProperties": {"productType": "iPhone16,1", "serialNumber": "SECRET"},
            }
        ]
    },
}


def test_devices() -> None:
    (device,) = parse_devices(json.dumps(ANSWER))
    assert device == AppleDevice(
        identifier="0A1B2C3D-0000-4000-8000-000000000001",
        name="Ann's iPhone",
        model="iPhone16,1",
        os_version="18.1",
        connected=True,
    )
    assert "SECRET" not in repr(device)


@pytest.mark.parametrize(
    "text", ["", "[]", '{"info": {"outcome": "success"}}', '{"info": 1, "result": {"devices": []}}']
)
def test_answers_that_are_not_understood(text: str) -> None:
    with pytest.raises(DeviceError, match="not understood"):
        parse_devices(text)


def test_failure_is_said() -> None:
    with pytest.raises(DeviceError, match="'failed'"):
        parse_devices(json.dumps(ANSWER | {"info": {"outcome": "failed"}}))


def test_arguments_keep_odd_names_whole() -> None:
    device, app = "0A1B", "org.example.runner"
    copy = ("xcrun", "devicectl", "device", "copy")
    domain = ("--device", device, "--domain-type", "appDataContainer", "--domain-identifier", app)
    source = "a b;$(c).zip"
    assert copy_to_arguments(device, app, Path(source), "in") == (
        *(*copy, "to"),
        *(*domain, "--source", source, "--destination", "in"),
    )
    assert copy_from_arguments(device, app, "out", Path(source)) == (
        *(*copy, "from"),
        *(*domain, "--source", "out", "--destination", source),
    )
    assert launch_arguments(device, app)[-3:] == ("--device", device, app)
    assert list_arguments(Path("x.json"))[-2:] == ("--json-output", "x.json")


class MLNeuralEngineComputeDevice:
    pass


class MLCPUComputeDevice:
    pass


def test_units_of_a_plan() -> None:
    engine, cpu = MLNeuralEngineComputeDevice(), MLCPUComputeDevice()
    where = {"conv": engine, "mul": engine, "cast": cpu, "const": None}
    plan = SimpleNamespace(
        get_compute_device_usage_for_mlprogram_operation=lambda name: (
            where[name] and SimpleNamespace(preferred_compute_device=where[name])
        )
    )
    assert units(plan, where) == {"neural engine": 2, "cpu": 1}
