"""A bundle on a phone that the reference interpreter plays; coremltools' part is tested with the targets."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
import xcode
from compute_plans import operation, plan
from numpy.typing import NDArray

from rexnet_export.apps.bench.apple import run_apple
from rexnet_export.apps.bench.apple.devicectl import AppleDevice
from rexnet_export.apps.bench.command import main
from rexnet_export.apps.bench.result.result import agreement, read_result
from rexnet_export.apps.bench.runner.coreml import Plan
from rexnet_export.apps.bench.transports.posix import Control
from rexnet_export.pipeline.core.errors import DeviceError
from rexnet_export.targets.coreml.interpreter_program import MilProgram
from rexnet_export.targets.coreml.package import read_package

DEVICE = f"apple:{xcode.IDENTIFIER}"
TEAM = ("--apple-team", "ABCDE12345")
FEW = ("--pairs", "2", "--block-runs", "3", "--images", "12")
OPERATIONS = [operation("conv"), operation("cast")]


class Interpreted:
    """A model in array form; the phone's clock says 1 ms for each prediction, and one more for each before."""

    def __init__(self, program: MilProgram, phone: "Phone") -> None:
        self._program, self._phone, self._predictions = program, phone, 0

    def load_ns(self) -> int:
        return 5_000_000

    def predict(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], int]:
        self._phone.asked()
        self._predictions += 1
        array = torch.from_numpy(image).permute(0, 3, 1, 2).float()
        (logits,) = [r for step, r in self._program.execute({"image": array}) if step.output == "logits"]
        return self._phone.answer(logits.numpy().reshape(-1)), 1_000_000 * self._predictions

    def plan(self) -> Plan:
        return plan(OPERATIONS, self._phone.units)

    def unload(self) -> None:
        self._phone.loaded -= 1


class Phone:
    """Computes as the interpreter does, changed by `answer`; after `patience` predictions it is gone."""

    def __init__(self) -> None:
        self.answer: Callable[[NDArray[np.float32]], NDArray[np.float32]] = lambda logits: logits
        self.units = {"conv": "neural engine", "cast": "cpu"}
        self.patience, self.loaded = 10**6, 0
        self._programs: dict[Path, MilProgram] = {}

    def load(self, package: Path) -> Interpreted:
        self.loaded += 1
        if package not in self._programs:  # reading one takes longer than all that is asked of it
            self._programs[package] = MilProgram(read_package(package), {"logits"}, arithmetic="program")
        return Interpreted(self._programs[package], self)

    def asked(self) -> None:
        self.patience -= 1
        if self.patience < 0:
            raise DeviceError(f"{DEVICE} could not predict: gone")


@pytest.fixture
def phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Phone:
    """What this "Mac" reaches as DEVICE."""
    monkeypatch.setenv("PATH", f"{xcode.install(tmp_path / 'xcode')}{os.pathsep}{os.environ['PATH']}")
    found = Phone()

    @contextmanager
    def prepared(
        device: AppleDevice, team: str, _devicectl: Path, _seconds: float
    ) -> Iterator[tuple[Phone, list[Control]]]:
        assert (device.identifier, team) == (xcode.IDENTIFIER, TEAM[1])
        app = {"name": "app", "asked": "x", "applied": True, "restored": None, "error": None}
        yield found, [app]
        app["restored"] = True

    monkeypatch.setattr(run_apple, "require", lambda _device: Path("devicectl"))
    monkeypatch.setattr(run_apple, "prepared", prepared)
    return found


def run(bundle: Path, output: Path, *flags: str) -> int:
    return main(["run", str(bundle), "--device", DEVICE, *TEAM, *FEW, *flags, "--quiet", "--output", str(output)])


def test_a_run_is_a_whole_result(phone: Phone, bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out"
    assert run(bundle, output) == 4
    assert "unwatched, min_duration, min_queries" in capfd.readouterr().err.replace("\n", " ")
    result = read_result(output)
    assert (
        result["parity"] | {"verdict": "pass", "max_quant_steps": 0, "top1_agreement": 1, "n": 12} == result["parity"]
    )
    facts = {"kind": "ios", "manufacturer": "Apple", "model": "iPhone16,1", "os_version": "18.1", "build_id": "22B83"}
    assert result["device"] | facts == result["device"]
    planned = {"delegated_nodes": 1, "total_nodes": 2, "delegate_or_ep": "Core ML (cpu, neural engine)"}
    assert result["runtime"] | planned == result["runtime"]
    assert result["load"] == {"cold_ns": 5_000_000, "warm_ns": [5_000_000] * 3, "first_inference_ns": 1_000_000}
    assert [control["restored"] for control in result["controls"]] == [True]
    # The first inference and 10 to warm up come before the two blocks of three.
    assert np.load(output / "raw_latency.npy")[:, 2].tolist() == [1_000_000 * n for n in range(12, 18)]
    assert result["latency"] | {"n": 6, "clock": "mach_absolute_time", "scope": "invoke_only"} == result["latency"]
    nulls = ("paired", "environment", "memory.peak_rss_bytes", "device.soc", "latency.p90_ns")
    assert set(nulls) <= set(result["not_measured"])
    assert phone.loaded == 0
    assert agreement(output, result, output, result)["flipped_images"] == 0
    named = {line[66:] for line in (output / "DONE").read_text().splitlines()}
    assert named == {path.name for path in output.iterdir()} - {"DONE"}
    for private in (
        xcode.IDENTIFIER,
        "SECRET",
        "Ann",
        xcode.ANSWER["result"]["devices"][0]["hardwareProperties"]["udid"],
    ):
        assert private not in json.dumps(result)


@pytest.mark.usefixtures("phone")
def test_enough_of_it_is_still_not_watched(bundle: Path, tmp_path: Path) -> None:
    assert run(bundle, tmp_path / "out", "--block-runs", "40") == 4
    assert read_result(tmp_path / "out")["validity"]["reasons"] == ["unwatched"]


def test_a_phone_without_a_plan(phone: Phone, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_plan(_model: Interpreted) -> Plan:
        raise DeviceError(f"{DEVICE} could not tell its compute plan") from ValueError("iOS 17.4 is needed")

    monkeypatch.setattr(Interpreted, "plan", no_plan)
    assert run(bundle, tmp_path / "out") == 4
    runtime = read_result(tmp_path / "out")["runtime"]
    assert (runtime["total_nodes"], runtime["fully_delegated"], runtime["delegate_or_ep"]) == (None, None, "Core ML")
    assert runtime["options"]["no_compute_plan"] == "iOS 17.4 is needed", "the device is not to be named"
    assert phone.loaded == 0


def test_other_logits_fail_parity(phone: Phone, bundle: Path, tmp_path: Path) -> None:
    phone.answer = lambda logits: -logits
    assert run(bundle, tmp_path / "out") == 1
    assert read_result(tmp_path / "out")["parity"]["verdict"] == "fail"


@pytest.mark.parametrize("patience", [0, 20])
def test_a_phone_that_is_lost_leaves_nothing(phone: Phone, bundle: Path, tmp_path: Path, patience: int) -> None:
    phone.patience = patience
    assert run(bundle, tmp_path / "here" / "out") == 5
    assert not list((tmp_path / "here").iterdir())


@pytest.mark.usefixtures("phone")
@pytest.mark.parametrize(
    ("flags", "code", "says"),
    [
        (("--python", "python3"), 2, "--python says nothing to apple:"),
        (("--threads", "2"), 2, "--threads says nothing"),
        (("--idle-wait", "1"), 2, "--idle-wait says nothing"),
        (("--sustained", "1"), 2, "--sustained says nothing"),
        (("--runtime", "onnxruntime"), 2, "has coremltools only"),
        (("--images", "0"), 2, "images 0"),
        (("--artifact", "none"), 2, "the bundle has rexnet_050-int8.mlpackage"),
        (("--device", "apple:other"), 5, "Xcode knows no apple:other"),
    ],
)
def test_refusals(
    flags: tuple[str, ...], code: int, says: str, bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(bundle, tmp_path / "out", *flags) == code
    assert says in capfd.readouterr().err.replace("\n", " ")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("phone")
def test_a_team_is_needed(bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(bundle), "--device", DEVICE, "--output", str(tmp_path / "out")]) == 2
    assert "--apple-team TEAM" in capfd.readouterr().err


@pytest.mark.skipif(sys.platform == "darwin", reason="phones are reached from here")
def test_elsewhere_than_on_macos_it_is_one_line(
    bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(bundle), "--device", DEVICE, "--output", str(tmp_path / "out")]) == 13
    assert "from macOS with Xcode only" in capfd.readouterr().err.replace("\n", " ")
    assert not (tmp_path / "out").exists()
