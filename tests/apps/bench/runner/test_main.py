"""The runner as a device runs it: `python bundle.zip`, in a process of its own."""

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from bundles import SHORT, altered

from rexnet_export.apps.bench.runner.graph import Graph
from rexnet_export.apps.bench.runner.phases import Block, Latency, idle_gate, measure_latency
from rexnet_export.apps.bench.runner.validity import latency_reasons

SCHEMA = json.loads(
    files("rexnet_export.apps.bench.result").joinpath("device_result.schema.json").read_text(encoding="utf-8")
)


def run(bundle: Path, out: Path, *flags: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(bundle), "--out", str(out), *SHORT, *flags]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})


def result(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "result.json").read_text(encoding="utf-8"))
    jsonschema.validate(found, SCHEMA)
    return found


@pytest.mark.parametrize(
    ("flags", "runtime"),
    [
        ((), "ai_edge_litert"),
        (("--artifact", "rexnet_050-int8.ort"), "onnxruntime"),
        (("--runtime", "onnxruntime"), "onnxruntime"),
    ],
)
def test_run_repeats_the_desktop(flags: tuple[str, ...], runtime: str, bundle: Path, tmp_path: Path) -> None:
    done = run(bundle, tmp_path / "out", *flags)
    assert done.returncode == 4, done.stderr  # 6 samples are too few to be valid
    found = result(tmp_path / "out")
    assert found["runtime"]["name"] == runtime
    assert found["parity"]["top1_agreement"] == 1
    assert found["parity"]["max_quant_steps"] == 0
    assert "min_queries" in found["validity"]["reasons"]
    assert found["latency"]["p90_ns"] is None
    assert "needs 64 samples" in found["not_measured"]["latency.p90_ns"]
    assert found["latency"]["n"] == 6
    assert len(found["latency"]["blocks"]) == 4
    assert found["runtime"]["total_nodes"] > 50
    assert [control["restored"] for control in found["controls"]] == [True]


def test_files_of_a_run_are_those_that_done_names(bundle: Path, tmp_path: Path) -> None:
    run(bundle, tmp_path / "out", "--sustained", "0.01")
    lines = (tmp_path / "out" / "DONE").read_text().splitlines()
    named = {line[66:]: line[:64] for line in lines}
    assert set(named) == {path.name for path in (tmp_path / "out").iterdir()} - {"DONE"}
    for name, digest in named.items():
        assert hashlib.sha256((tmp_path / "out" / name).read_bytes()).hexdigest() == digest
    raw = np.load(tmp_path / "out" / "raw_latency.npy")
    found = result(tmp_path / "out")
    assert raw.shape == (12, 3)
    assert set(raw[:, 1]) == {0, 1}
    assert found["latency"]["min_ns"] == raw[raw[:, 1] == 1, 2].min()
    predictions = np.load(tmp_path / "out" / "predictions.npy")
    assert predictions.dtype == np.uint16
    assert len(predictions) == found["accuracy"]["n"] == 24
    assert hashlib.sha256(predictions.tobytes()).hexdigest() == found["accuracy"]["predictions_sha256"]
    assert json.loads((tmp_path / "out" / "sustained.json").read_text())[0]["n"] > 0
    assert not [path for path in tmp_path.iterdir() if path.name != "out"], "the unpacked bundle is left behind"


def test_emulated_time_is_never_valid(bundle: Path, tmp_path: Path) -> None:
    assert run(bundle, tmp_path / "out", "--emulator", "qemu-user 7.2 -cpu max").returncode == 4
    found = result(tmp_path / "out")
    assert found["device"]["kind"] == "emulated"
    assert "emulated_timing" in found["validity"]["reasons"]
    found["validity"]["reasons"] = ["load_high"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(found, SCHEMA)


def test_another_network_fails_parity(bundle: Path, tmp_path: Path) -> None:
    from rexnet_export.apps.bench.runner.archive import bundle_id  # noqa: PLC0415

    def change(members: dict[zipfile.ZipInfo, bytes]) -> None:
        names = {info.filename: info for info in members}
        (golden,) = [info for name, info in names.items() if name.endswith("tflite.npy")]
        members[golden] = members[golden][: -4000 // 10] + bytes(400)
        sums = {n: hashlib.sha256(members[i]).hexdigest() for n, i in names.items() if n != "SHA256SUMS"}
        identity = json.loads(members[names["bundle.json"]]) | {"bundle_id": bundle_id(sums)}
        members[names["bundle.json"]] = json.dumps(identity).encode()
        sums["bundle.json"] = hashlib.sha256(members[names["bundle.json"]]).hexdigest()
        members[names["SHA256SUMS"]] = "".join(f"{d}  {n}\n" for n, d in sorted(sums.items())).encode()

    done = run(altered(bundle, tmp_path / "x.zip", change), tmp_path / "out")
    assert done.returncode == 1
    assert "computes something else" in done.stderr
    assert result(tmp_path / "out")["parity"]["verdict"] == "fail"


@pytest.mark.parametrize(
    ("flags", "code", "says"),
    [
        (("--artifact", "none.tflite"), 2, "no artifact 'none.tflite'"),
        (("--images", "0"), 2, "images 0"),
        (("--runtime", "tensorrt"), 13, "no artifact of the bundle"),
        (("--runtime", "tflite_runtime"), 13, "pip install tflite-runtime"),
    ],
)
def test_refusals(flags: tuple[str, ...], code: int, says: str, bundle: Path, tmp_path: Path) -> None:
    done = run(bundle, tmp_path / "out", *flags)
    assert done.returncode == code
    assert says in done.stderr
    assert not (tmp_path / "out").exists()


def test_python_without_numpy_says_so(bundle: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-S", str(bundle), "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 13
    assert "pip install numpy" in done.stderr
    assert "Traceback" not in done.stderr


class Counting:
    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log

    def run(self, _image: np.ndarray) -> np.ndarray:
        self.log.append(self.name)
        return np.zeros(10, np.float32)

    def graph(self, _model: Path, _folder: Path) -> Graph:
        return Graph(None, None, None, {})


def test_arms_take_turns_in_a_seeded_order() -> None:
    plan = {"seed": 0, "warmup_runs": 1, "block_warmup": 2, "block_runs": 3, "pairs": 12, "budget_s": 60}
    log: list[str] = []
    arms = {name: Counting(name, log) for name in ("base", "cand")}
    latency = measure_latency(arms, np.zeros((1, 4, 4, 3), np.uint8), plan)
    assert log.count("base") == log.count("cand") == 1 + 12 * 5
    orders = [[block.arm for block in latency.blocks if block.pair == pair] for pair in range(12)]
    assert all(sorted(order) == ["base", "cand"] for order in orders)
    assert len({tuple(order) for order in orders}) == 2
    again = measure_latency(arms, np.zeros((1, 4, 4, 3), np.uint8), plan)
    assert [block.arm for block in again.blocks] == [block.arm for block in latency.blocks]
    assert len(measure_latency(arms, np.zeros((1, 4, 4, 3), np.uint8), plan | {"budget_s": 0}).kernels) == 1


def test_validity() -> None:
    minimum = {"duration_s": 1e-6, "queries": 4}
    blocks = [Block(pair, "cand", 0, 0.0, None, [1000, 1000]) for pair in range(4)]
    steady = Latency(blocks, [(100, 105)] * 4, 0.0)
    assert latency_reasons(steady, minimum, [], (100, 109)) == []
    assert latency_reasons(steady, minimum, ["load_high"], (100, 120)) == ["load_high", "clock_changed"]
    shaken = Latency(blocks, [(100, 105)] * 2 + [(100, 150)] * 2, 0.0)
    assert latency_reasons(shaken, minimum, [], (1, 1)) == ["throttled"]
    assert shaken.kept_pairs() == [0, 1]
    assert latency_reasons(steady, {"duration_s": 1, "queries": 9}, [], (1, 1)) == ["min_duration", "min_queries"]


def test_idle_gate_waits_and_then_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from rexnet_export.apps.bench.runner import phases  # noqa: PLC0415

    states = iter([(9.0, [50.0]), (9.0, [90.0]), (0.1, [85.0]), (0.1, [84.8])])
    monkeypatch.setattr(phases.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(phases, "environment", lambda: dict(zip(("loadavg_1m", "temps_c"), next(states), strict=True)))
    limits = {"max_wait_s": 60, "load_per_cpu": 0.7, "temp_c": 70, "poll_s": 1}
    waits: list[float] = []
    assert idle_gate(limits, waits.append) == []  # the last temperature is high, but stable
    assert len(waits) == 3
    assert capsys.readouterr().out == (
        "note: waiting for a load of 1.4 (now 9.0, the mean of a minute), for at most 60 s\n"
    )
    monkeypatch.setattr(phases, "environment", lambda: {"loadavg_1m": 9.0, "temps_c": [90.0]})
    assert idle_gate(limits | {"max_wait_s": 0}, waits.append) == ["load_high", "too_hot"]
