"""`rexnet-gate latency` as a person runs it, on real files of a small network."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import junitparser
import numpy as np
import pytest
from numpy.typing import NDArray
from small_export import FEW

from rexnet_export.apps.export.command import main as export
from rexnet_export.apps.gate.latency.gate import Request, run
from rexnet_export.apps.gate.latency_command import main
from rexnet_export.pipeline.core.errors import InvalidMeasurement
from rexnet_export.pipeline.core.progress import Silent
from rexnet_export.targets.isolation.isolated_file import IsolatedFile

FAST = ("--pairs", "6", "--margin", "99")


@pytest.fixture(scope="module")
def exported(exported: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By precision; in float TFLite only."""
    fp32 = tmp_path_factory.mktemp("latency") / "fp32"
    flags = ["--fp32", "--checkpoint", str(checkpoint), "--target", "tflite", *FEW, "--quiet"]
    assert export([*flags, "--output", str(fp32)]) == 0
    return {"int8": exported, "fp32": fp32}


@pytest.fixture(autouse=True)
def no_orphans() -> Iterator[None]:
    yield
    assert workers() == []


def workers() -> list[int]:
    """Child processes of this one that have an artifact open."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if b"rexnet_export.targets.isolation.worker" in command and parent == os.getpid():
            found.append(int(entry.name))
    return found


def gated(capfd: pytest.CaptureFixture[str], *flags: str | Path) -> tuple[int, str, str]:
    code = main([str(flag) for flag in flags])
    out, err = capfd.readouterr()
    assert "Traceback" not in err
    return code, out, err


def as_json(out: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(out)
    schema = json.loads(
        resources.files("rexnet_export.apps.gate.latency").joinpath("latency_gate.schema.json").read_text()
    )
    jsonschema.validate(content, schema)
    return content


@pytest.mark.parametrize(
    "file",
    [
        "rexnet_050-int8.tflite",
        "rexnet_050-int8.ort",
        pytest.param("rexnet_050-fp32.safetensors", marks=pytest.mark.slow),
    ],
)
def test_a_copy_is_neither_slower_nor_worse(
    exported: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str], file: str
) -> None:
    copy = shutil.copy(exported["int8"] / file, tmp_path)
    code, out, _ = gated(capfd, exported["int8"] / file, copy, "--json", *FAST, "--on-inconclusive", "warn")
    content = as_json(out)
    assert content["signals"]["verdict"] == "PASS"
    assert content["latency_verdict"] != "FAIL"
    assert code == {"PASS": 0, "INCONCLUSIVE": 0, "INVALID": 4}[content["verdict"]]
    first, *_ = content["runs"]
    assert len(first["pairs"]) == 6
    assert {len(pair["base_ns"]) for pair in first["pairs"]} == {content["base"]["inferences_per_block"]}
    assert content["pinned_to_cores"] == [max(os.sched_getaffinity(0))]


def test_the_float_file_is_slower_and_worse_and_the_table_says_so(
    exported: dict[str, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    code, out, err = gated(
        capfd, exported["int8"] / "rexnet_050-int8.tflite", exported["fp32"] / "rexnet_050-fp32.tflite", "--pairs", "5"
    )
    assert code == 1
    assert "share of INT8 multiply-accumulates: 1.0 became 0.0" in err
    for word in ("signals without noise", "worse", "speed: ", "pinned to core", "LiteRT"):
        assert word in out


def test_files_say_the_same_as_the_verdict(
    exported: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    files = ("--junit", "j.xml", "--markdown", "m.md", "--benchmark", "b.json", "--bencher", "bmf.json", "--json")
    pair = exported["int8"] / "rexnet_050-int8.tflite", exported["fp32"] / "rexnet_050-fp32.tflite"
    code, out, _ = gated(capfd, *pair, "--pairs", "5", *files)
    assert code == 1
    content = as_json(out)
    (suite,) = junitparser.JUnitXml.fromfile("j.xml")
    cases = {case.name: case for case in suite}
    signals = {signal["name"]: signal["change"] for signal in content["signals"]["signals"]}
    assert set(cases) == {"latency", *signals}
    assert {name for name, case in cases.items() if case.is_failure} - {"latency"} == {
        name for name, change in signals.items() if change == "worse"
    }
    assert {name for name, case in cases.items() if case.is_skipped} - {"latency"} == {
        name for name, change in signals.items() if change == "not compared"
    }
    assert "operators" in signals
    assert cases["operators"].is_skipped
    verdict = content["latency_verdict"]
    assert cases["latency"].is_failure == (verdict == "FAIL")
    assert cases["latency"].is_error == (verdict in {"INVALID", "INCONCLUSIVE"})
    markdown = Path("m.md").read_text()
    assert markdown.startswith("### :x: rexnet-gate latency: FAIL\n")
    assert "share of INT8 multiply-accumulates | worse | 100.00% | 0.00% |" in markdown
    names = {entry["name"]: entry for entry in json.loads(Path("b.json").read_text())}
    assert names["rexnet_050-fp32.tflite: bytes of tensors"]["unit"] == "bytes"
    assert "rexnet_050-fp32.tflite: share of INT8 multiply-accumulates" not in names
    measures = json.loads(Path("bmf.json").read_text())["rexnet_050-fp32.tflite"]
    assert ("latency" in measures) == (verdict != "INVALID")  # a machine that others use gives no number
    if latency := measures.get("latency"):
        assert latency["lower_value"] <= latency["value"] <= latency["upper_value"]
        assert latency["value"] == pytest.approx(content["candidate"]["block_median_ns"])
    assert measures["share-of-int8-multiply-accumulates"] == {"value": 0.0}


def test_a_run_without_a_result_is_an_error_in_files(
    exported: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    junit = tmp_path / "j.xml"
    code, out, err = gated(capfd, exported["int8"], exported["int8"], "--target", "coreml", "--junit", junit)
    assert (code, out, len(err.splitlines())) == (4, "", 1)
    assert "MIL reference interpreter" in err  # an ML program has no speed here
    (case,) = [case for suite in junitparser.JUnitXml.fromfile(str(junit)) for case in suite]
    assert case.is_error
    assert err == f"rexnet-gate latency: {case.result[0].message}\n"
    code, _, err = gated(capfd, tmp_path / "none.tflite", tmp_path / "none.tflite", "--junit", "/proc/x/j.xml")
    assert code == 2
    assert "--junit /proc/x/j.xml cannot be written" in err


def test_formats_are_compared_in_speed_alone(exported: dict[str, Path], capfd: pytest.CaptureFixture[str]) -> None:
    int8 = exported["int8"]
    code, out, _ = gated(capfd, int8 / "rexnet_050-int8.onnx", int8 / "rexnet_050-int8.tflite", "--json", *FAST)
    content = as_json(out)
    assert "not_measured" in content["signals"]
    assert code in {0, 4}
    assert {content[side]["executed_by"].split()[0] for side in ("base", "candidate")} == {"LiteRT", "ONNX"}


def test_folders_stand_for_a_targets_artifact(exported: dict[str, Path], capfd: pytest.CaptureFixture[str]) -> None:
    folders = exported["int8"], exported["int8"]
    code, out, _ = gated(capfd, *folders, "--target", "ort x86", "--json", *FAST)
    assert code in {0, 4}
    assert as_json(out)["base"]["artifact"] == "rexnet_050-int8-x86.ort"
    code, _, err = gated(capfd, *folders)
    assert code == 2
    assert "give --target; there are coreml, tflite, ort, ort x86, ort vnni, ort npu, gpu" in err
    code, _, err = gated(capfd, *folders, "--target", "phone")
    assert code == 2
    assert "'phone'" in err


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (("--pairs", "4"), 2, "--pairs 4"),
        (("--margin", "nan"), 2, "--margin nan"),
        (("--threads", "0"), 2, "--threads 0"),
        (("--seed", "-1"), 2, "--seed -1"),
    ],
)
def test_wrong_numbers_are_one_line(
    exported: dict[str, Path], capfd: pytest.CaptureFixture[str], flags: Sequence[str], code: int, words: str
) -> None:
    file = exported["int8"] / "rexnet_050-int8.tflite"
    found, out, err = gated(capfd, file, file, *flags)
    assert (found, out, len(err.splitlines())) == (code, "", 1)
    assert words in err


def test_wrong_files_are_one_line(exported: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    whole = exported["int8"] / "rexnet_050-int8.tflite"
    cut, photo = tmp_path / "cut.tflite", tmp_path / "photo.jpeg"
    cut.write_bytes(whole.read_bytes()[:5000])
    photo.write_bytes(b"...")
    for path, code in ((cut, 12), (photo, 2), (tmp_path / "none.tflite", 2), (tmp_path, 2)):
        found, out, err = gated(capfd, whole, path, *FAST)
        assert (found, out, len(err.splitlines())) == (code, "", 1)
        assert path.name in err


def test_other_input_sizes_are_one_line(
    exported: dict[str, Path], checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    flags = ["--checkpoint", str(checkpoint), "--output", str(other), "--quiet", *FEW, "--image-size", "64", "--fp32"]
    assert export([*flags, "--target", "tflite"]) == 0
    code, _, err = gated(capfd, exported["fp32"] / "rexnet_050-fp32.tflite", other / "rexnet_050-fp32.tflite", *FAST)
    assert code == 2
    assert "32 px" in err
    assert "64 px" in err


def test_an_interrupt_leaves_no_process(exported: dict[str, Path]) -> None:
    file = str(exported["int8"] / "rexnet_050-int8.tflite")
    command = [sys.executable, "-P", "-m", "rexnet_export.apps.gate.latency_command", file, file, "--pairs", "1000"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A test run in the background ignores Ctrl-C and its children would inherit that.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    ) as gate:
        children: list[int] = []
        while len(children) < 2:
            assert gate.poll() is None
            time.sleep(0.1)
            text = Path(f"/proc/{gate.pid}/task/{gate.pid}/children").read_text()
            children = [int(child) for child in text.split()]
        time.sleep(1)
        gate.send_signal(signal.SIGINT)
        _, err = gate.communicate(timeout=300)
    assert gate.returncode == 130
    assert "interrupted" in err
    assert [child for child in children if Path(f"/proc/{child}").exists()] == []


class Doomed(IsolatedFile):
    """Its process is killed after some blocks."""

    blocks = 0

    def time_block(self, image: NDArray[np.uint8], *, dropped: int, counted: int) -> tuple[int, ...]:
        self.blocks += 1
        if self.blocks == 3:
            os.kill(self.process_id, signal.SIGKILL)
        return super().time_block(image, dropped=dropped, counted=counted)


def test_a_process_that_is_killed_while_timed_is_an_invalid_measurement(exported: dict[str, Path]) -> None:
    file = exported["int8"] / "rexnet_050-int8.tflite"
    with pytest.raises(InvalidMeasurement, match=r"while it was timed, .*SIGKILL"):
        run(Request(base=file, candidate=file), lambda path, threads: Doomed(path, threads=threads), Silent())
