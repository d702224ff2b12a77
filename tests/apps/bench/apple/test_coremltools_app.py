"""coremltools' own Python code for phones, against a stand-in for Xcode's programs and for its app on the phone."""

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import xcode
from coremltools.models.ml_program.experimental import async_wrapper, remote_device

from rexnet_export.apps.bench.apple.coremltools_app import ApplePhone, prepared, require
from rexnet_export.apps.bench.apple.devicectl import AppleDevice, listed
from rexnet_export.pipeline.core.errors import DeviceError, TargetUnavailable, UsageError

TEAM = "ABCDE12345"


@pytest.fixture
def mac(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of Xcode's stand-ins; what coremltools' compiled parts do on macOS is a folder here."""
    bin_folder = xcode.install(tmp_path / "xcode")
    monkeypatch.setenv("PATH", f"{bin_folder}{os.pathsep}{os.environ['PATH']}")
    project = tmp_path / "modelrunner"
    (project / "ModelRunner.xcworkspace").mkdir(parents=True)
    monkeypatch.setattr(remote_device._ModelRunnerAppBuilder, "_get_project_path", lambda: project)
    monkeypatch.setattr(remote_device._DeviceCtl, "_validation_done", False)

    def compile_model(model: str, destination_path: str) -> None:
        assert model.endswith(".mlpackage")
        Path(destination_path).mkdir()
        (Path(destination_path) / "compiled").write_text(model)

    monkeypatch.setattr(async_wrapper, "compile_model", compile_model)
    yield tmp_path / "xcode"
    assert not [path for path in Path(tempfile.gettempdir()).glob("rexnet-apple-*") if path.is_dir()]


def connected(mac: Path) -> AppleDevice:
    assert mac.is_dir()
    return listed()[0]


def devicectl(mac: Path) -> Path:
    return mac / "developer" / "devicectl"


def test_a_model_is_loaded_run_and_timed_there_and_nothing_stays(mac: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3), np.uint8)
    path, folder = os.environ["PATH"], tempfile.gettempdir()
    with prepared(connected(mac), TEAM, devicectl(mac), 120) as (phone, controls):
        model = phone.load(Path("arrays.mlpackage"))
        assert model.load_ns() == 5_000_000
        logits, duration = model.predict(image)
        np.testing.assert_allclose(logits, image[0].mean((0, 1)), rtol=1e-5)
        assert (logits.dtype, duration) == (np.float32, 1_000_000)
        model.unload()
    identifier = f"org.rexnet-export.modelrunner.{TEAM.lower()}"
    (built,) = xcode.built(mac)
    assert built | {"DEVELOPMENT_TEAM": TEAM, "PRODUCT_BUNDLE_IDENTIFIER": identifier} == built
    assert xcode.asked(mac)[-1] == ["device", "uninstall", "app", "--device", xcode.IDENTIFIER, identifier]
    (control,) = controls
    assert control | {"asked": identifier, "applied": True, "restored": True, "error": None} == control
    assert (os.environ["PATH"], tempfile.gettempdir()) == (path, folder)


def test_what_the_phone_cannot_do_is_said_and_the_app_deleted(mac: Path) -> None:
    with prepared(connected(mac), TEAM, devicectl(mac), 120) as (phone, _):
        model = phone.load(Path("arrays.mlpackage"))
        with pytest.raises(DeviceError, match=r"could not tell its compute plan: .*this phone has no MLModelService"):
            model.plan()
        model.unload()
    assert xcode.asked(mac)[-1][:3] == ["device", "uninstall", "app"]


def test_an_app_that_cannot_be_deleted_is_in_the_record(mac: Path) -> None:
    with prepared(connected(mac), TEAM, devicectl(mac), 120) as (_, controls):
        devicectl(mac).write_text("#!/bin/sh\necho 'ERROR: the device is gone' >&2; exit 1\n")
    (control,) = controls
    assert (control["restored"], control["error"]) == (False, "ERROR: the device is gone")


def enter(device: AppleDevice, team: str, mac: Path, seconds: float) -> ApplePhone:
    with prepared(device, team, devicectl(mac), seconds) as (phone, _):
        return phone


def test_what_cannot_be_signed_is_one_line(mac: Path) -> None:
    with pytest.raises(DeviceError, match=r"could not get coremltools' app .*team right") as caught:
        enter(connected(mac), "NOTATEAM00", mac, 120)
    assert "\n" not in str(caught.value)
    assert "uninstall" not in str(xcode.asked(mac))


def test_time_ends(mac: Path) -> None:
    with pytest.raises(DeviceError, match="was not done in 0 s; allow more --timeout"):
        enter(connected(mac), TEAM, mac, 0)


def test_device_that_is_not_connected(mac: Path) -> None:
    with pytest.raises(DeviceError, match="is unavailable; connect it by cable"):
        enter(listed()[1], TEAM, mac, 120)


@pytest.mark.parametrize("team", ["", "abcde12345", "ABCDE1234", "A$(reboot)", "ABCDE12345; x"])
def test_hostile_teams(mac: Path, team: str) -> None:
    with pytest.raises(UsageError, match="ten capital letters and digits"):
        enter(connected(mac), team, mac, 120)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(TargetUnavailable, match="from macOS with Xcode only"):
        require("apple:x")
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(TargetUnavailable, match="install Xcode 15"):
        require("apple:x")


def test_xcodes_own_folder_is_found(mac: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert require("apple:x").samefile(devicectl(mac))
