"""iPhones and iPads, reached from a Mac by coremltools: it builds, signs and installs an app of its own and asks it.

Not run on Apple hardware: coremltools' own code is tested on Linux against a stand-in for Xcode's programs.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import tempfile
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rexnet_export.apps.bench.apple.devicectl import XCRUN, AppleDevice, find_devicectl
from rexnet_export.apps.bench.transports.posix import COMMAND_S, Control, run_process
from rexnet_export.pipeline.core.errors import DeviceError, TargetUnavailable, UsageError, first_line
from rexnet_export.pipeline.core.extras import require_module
from rexnet_export.targets.coreml.builder import IMAGE, LOGITS
from rexnet_export.targets.coreml.package import quiet

if TYPE_CHECKING:
    from coremltools.models.compute_plan import MLComputePlan
    from coremltools.models.ml_program.experimental.async_wrapper import MLModelAsyncWrapper
    from coremltools.models.ml_program.experimental.remote_device import Device

# It becomes a word of a shell command inside coremltools.
TEAM = re.compile(r"[A-Z0-9]{10}")


def require(device: str) -> Path:
    """Where Xcode has its `devicectl`; `TargetUnavailable` says what is missing."""
    if sys.platform != "darwin":
        raise TargetUnavailable(f"{device} is reached from macOS with Xcode only; run the bundle there")
    devicectl = find_devicectl()
    if devicectl is None:
        raise TargetUnavailable(f"{device} needs devicectl, which is not installed here; install Xcode 15 or newer")
    require_module("coremltools", device)
    return devicectl


class _Asking:
    """Waits for coremltools; all waiting together may take `seconds`, and every failure is a `DeviceError`."""

    def __init__(self, name: str, runner: asyncio.Runner, seconds: float) -> None:
        self._name, self._runner, self._seconds = name, runner, seconds
        self._deadline = time.monotonic() + seconds

    def ask[T](self, what: str, work: Coroutine[Any, Any, T]) -> T:
        """The answer; coremltools has no common exception type."""
        try:
            with quiet():
                return self._runner.run(asyncio.wait_for(work, self._deadline - time.monotonic()))
        except TimeoutError as error:
            late = f"{self._name} was not done in {self._seconds:g} s"
            raise DeviceError(f"{late}; allow more --timeout, or fewer --images") from error
        except Exception as error:
            raise DeviceError(f"{self._name} could not {what}: {first_line(error)}") from error


class Loaded:
    """A model on the phone; durations are what its app measured around Core ML's own calls."""

    def __init__(self, asking: _Asking, model: MLModelAsyncWrapper) -> None:
        self._asking, self._model = asking, model

    def load_ns(self) -> int:
        """How long Core ML took to load it."""
        return _duration(self._model.load_duration_in_nano_seconds)

    def predict(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], int]:
        """uint8 [1, S, S, 3] RGB -> float32 logits [classes] of a package in array form, and ns."""
        pixels = np.ascontiguousarray(image.transpose(0, 3, 1, 2), np.float32)
        answer = self._asking.ask("predict", self._model.predict({IMAGE: pixels}))
        duration = _duration(self._model.last_predict_duration_in_nano_seconds)
        return np.asarray(answer[LOGITS], np.float32).reshape(-1), duration

    def plan(self) -> MLComputePlan:
        """Which unit the phone means to run which operation on."""
        return self._asking.ask("tell its compute plan", self._model.retrieve_compute_plan())

    def unload(self) -> None:
        """Let go of it there."""
        self._asking.ask("unload the model", self._model.unload())


class ApplePhone:
    """A phone with coremltools' app running."""

    def __init__(self, asking: _Asking, device: Device) -> None:
        self._asking, self._device = asking, device

    def load(self, package: Path) -> Loaded:
        """Compile a package in array form here, send it, and load it there."""
        from coremltools.models.ml_program.experimental.async_wrapper import MLModelAsyncWrapper  # noqa: PLC0415

        model = MLModelAsyncWrapper.from_spec_or_path(str(package), weights_dir="", device=self._device)
        self._asking.ask("load the model", model.load())
        return Loaded(self._asking, model)


@contextmanager
def prepared(
    found: AppleDevice, team: str, devicectl: Path, seconds: float
) -> Iterator[tuple[ApplePhone, list[Control]]]:
    """The phone with coremltools' app, built here and signed for `team`, while the context is open.

    The record tells afterwards whether the app could be deleted.
    """
    name = f"apple:{found.identifier}"
    if not TEAM.fullmatch(team):
        raise UsageError(f"--apple-team {team!r} is no team identifier: ten capital letters and digits")
    with quiet():
        from coremltools.models.ml_program.experimental.remote_device import AppSigningCredentials  # noqa: PLC0415

    # Another team cannot sign for the identifier that coremltools has for its app.
    credentials = AppSigningCredentials(
        development_team=team, bundle_identifier=f"org.rexnet-export.modelrunner.{team.lower()}"
    )
    app: Control = {"name": "modelrunner app", "asked": credentials.bundle_identifier, "applied": False}
    app |= {"restored": None, "error": None}
    with _surroundings(devicectl) as work, asyncio.Runner() as runner:
        asking = _Asking(name, runner, seconds)
        preparing = _connected(found, name).prepare_for_model_debugging(credentials, work)
        device = asking.ask("get coremltools' app (is it unlocked, in developer mode, and the team right?)", preparing)
        app["applied"] = True
        try:
            yield ApplePhone(asking, device), [app]
        finally:
            device.session.stop()
            _uninstall(name, found.identifier, app)


@contextmanager
def _surroundings(devicectl: Path) -> Iterator[Path]:
    """coremltools calls `devicectl` by its bare name, and leaves a temporary file for every prediction."""
    path, folder = os.environ["PATH"], tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix="rexnet-apple-") as work:
        os.environ["PATH"] = f"{path}{os.pathsep}{devicectl.parent}"
        tempfile.tempdir = work
        try:
            yield Path(work)
        finally:
            os.environ["PATH"], tempfile.tempdir = path, folder


def _connected(found: AppleDevice, name: str) -> Device:
    from coremltools.models.ml_program.experimental.remote_device import Device  # noqa: PLC0415

    with quiet():
        devices = [device for device in Device.get_devices() if device.identifier == found.identifier]
    if found.state != "connected" or not devices:
        raise DeviceError(f"{name} is {found.state}; connect it by cable, unlock it and trust this Mac")
    return devices[0]


def _uninstall(name: str, identifier: str, app: Control) -> None:
    command = (XCRUN, "devicectl", "device", "uninstall", "app", "--device", identifier, app["asked"])
    try:
        done = run_process(command, timeout=COMMAND_S, device=name)
        app["restored"], app["error"] = done.code == 0, done.said() if done.code else None
    except DeviceError as error:
        app["restored"], app["error"] = False, str(error)


def _duration(found: int | None) -> int:
    if not found or found < 0:
        raise DeviceError(f"the phone's app told no duration ({found}); check the version of coremltools")
    return found
