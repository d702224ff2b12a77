"""Apple devices by the recorded form of `devicectl`'s answer, through a stand-in for Xcode's programs."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from xcode import ANSWER, IDENTIFIER, install

from rexnet_export.apps.bench.apple.devicectl import AppleDevice, listed, parse_devices
from rexnet_export.apps.bench.command import main
from rexnet_export.pipeline.core.errors import DeviceError

PHONE = AppleDevice(
    identifier=IDENTIFIER,
    type="iPhone",
    model="iPhone16,1",
    arch="arm64e",
    os_version="18.1",
    build="22B83",
    state="connected",
)


def on_path(monkeypatch: pytest.MonkeyPatch, folder: Path, answer: dict[str, Any] = ANSWER) -> None:
    monkeypatch.setenv("PATH", f"{install(folder, answer)}{os.pathsep}{os.environ['PATH']}")


def test_devices_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path(monkeypatch, tmp_path)
    phone, tablet = listed()
    assert phone == PHONE
    assert "SECRET" not in repr(phone)
    assert "Ann" not in repr(phone)
    assert (tablet.model, tablet.state, tablet.build, tablet.arch) == ("iPad13,4", "unavailable", "unknown", "unknown")


def test_the_command_lists_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    on_path(monkeypatch, tmp_path)
    assert main(["devices"]) == 0
    assert f"apple:{IDENTIFIER}  connected, iPhone16,1, 18.1" in capfd.readouterr().out.splitlines()
    assert main(["devices", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert {"device": f"apple:{IDENTIFIER}", "state": "connected, iPhone16,1, 18.1"} in found


def test_without_xcode_there_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert listed() == []
    xcrun = tmp_path / "xcrun"  # as the command line tools have it, without Xcode
    xcrun.write_text("#!/bin/sh\necho 'xcrun: error: unable to find utility \"devicectl\"' >&2; exit 72\n")
    xcrun.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert listed() == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"info": {"outcome": "success"}}',
        '{"info": 1, "result": {"devices": []}}',
        '{"info": {"outcome": "success"}, "result": {"devices": [1]}}',
        '{"info": {"outcome": "success"}, "result": {"devices": [{"identifier": "x"}]}}',
    ],
)
def test_answers_that_are_not_understood(text: str) -> None:
    with pytest.raises(DeviceError, match="not understood"):
        parse_devices(text)


def test_failure_is_said() -> None:
    """It may come without a result."""
    with pytest.raises(DeviceError, match="'failed'"):
        parse_devices(json.dumps({"info": {"outcome": "failed"}}))
