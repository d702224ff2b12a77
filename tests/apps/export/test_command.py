"""`rexnet-export` as a person runs it: real images, every target, a network small enough for seconds."""

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from depths import SHORT
from PIL import Image
from small_export import FEW

import rexnet_export
from rexnet_export.apps.export.command import main
from rexnet_export.apps.shared.terminal import Terminal, run_command
from rexnet_export.pipeline.core.errors import DataError, UsageError
from rexnet_export.pipeline.core.progress import Bar
from rexnet_export.pipeline.core.records import file_sha256, stored_file
from rexnet_export.pipeline.export.inputs import gather
from rexnet_export.pipeline.export.options import Options
from rexnet_export.pipeline.model.architecture import architecture
from rexnet_export.pipeline.model.rexnet import ReXNet
from rexnet_export.targets import TARGETS, chosen

COMMAND = (sys.executable, "-P", "-m", "rexnet_export.apps.export.command")


@pytest.fixture
def report(exported: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((exported / "report.json").read_text(encoding="utf-8"))
    return loaded


def test_the_folder_holds_what_was_promised(exported: Path) -> None:
    names = {path.name for path in exported.iterdir()}
    artifacts = {f"rexnet_050-int8{suffix}" for suffix in (".mlpackage", ".tflite", ".ort", ".onnx")}
    assert names >= artifacts | {"qparams.json", "manifest.json", "report.json", "report.html", "predictions.npz"}
    assert not [name for name in names if name.startswith(".")]


def test_the_manifest_vouches_for_every_file(exported: Path) -> None:
    manifest = json.loads((exported / "manifest.json").read_text(encoding="utf-8"))
    unnamed = {"manifest.json", "provenance.intoto.json"}
    on_disk = {path.name: stored_file(path) for path in exported.iterdir() if path.name not in unnamed}
    assert {name: entry["sha256"] for name, entry in manifest["files"].items()} == {
        name: stored.sha256 for name, stored in on_disk.items()
    }


def test_the_report_measures_every_target(report: dict[str, Any], exported: Path, checkpoint: Path) -> None:
    assert report["reference"]["n"] == 48
    assert report["model"]["checkpoint_sha256"] == file_sha256(checkpoint)
    assert list(report["targets"]) == ["coreml", "tflite", "ort", "gpu"]
    for name, target in report["targets"].items():
        assert target["accuracy"]["n"] == 48, name
        assert target["accuracy"]["drop"] <= target["accuracy"]["drop_upper_95"]
        assert target["agreement_with_reference"] >= 0.9, name
        assert target["sha256"] == stored_file(exported / target["artifact"]).sha256
        if name != "gpu":
            assert target["int8_mac_fraction"] == 1.0, name
            assert target["float_ops"] == [], name
            assert target["logit_sqnr_db"] > 10, name


def test_a_table_and_a_page_are_made(exported: Path) -> None:
    page = (exported / "report.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert "rexnet_050-int8.tflite" in page
    assert "http" not in page


def test_predictions_hold_every_file_that_ran(exported: Path, report: dict[str, Any]) -> None:
    with np.load(exported / "predictions.npz", allow_pickle=False) as predictions:
        assert set(predictions.files) >= {"ids", "labels", "reference", "tflite", "ort", "ort-x86", "coreml", "gpu"}
        top1 = (predictions["tflite"].argmax(1) == predictions["labels"]).mean()
    assert top1 == pytest.approx(report["targets"]["tflite"]["accuracy"]["top1"])


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_float_precisions(checkpoint: Path, tmp_path: Path, precision: str) -> None:
    arguments = ["--checkpoint", str(checkpoint), "--target", "tflite", "--target", "coreml", f"--{precision}", *FEW]
    assert main([*arguments, "--output", str(tmp_path / "out")]) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert report["targets"]["tflite"]["precision"] == precision
    assert report["targets"]["tflite"]["agreement_with_reference"] >= 0.95
    assert "not_measured" in report["calibration"]


@pytest.mark.slow
def test_json_goes_to_standard_output(checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["--checkpoint", str(checkpoint), "--target", "ort", *FEW, "--json", "--output", str(tmp_path / "out")]
    assert main(arguments) == 0
    printed = capfd.readouterr()
    assert json.loads(printed.out)["targets"]["ort"]["accuracy"]["n"] == 48
    assert (
        printed.err
        == "calibration: INT8 ranges come from 16 images only; give a few hundred like those the model will see\n"
    )


@pytest.mark.slow
def test_unlabelled_foreign_images_give_agreement_only(checkpoint: Path, tmp_path: Path) -> None:
    photos, labels = tmp_path / "photos", tmp_path / "labels.txt"
    photos.mkdir()
    rng = np.random.default_rng(0)
    for index in range(20):
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(photos / f"{index}.png")
    labels.write_text("\n".join(f"thing {index}" for index in range(10)), encoding="utf-8")
    arguments = ["--checkpoint", str(checkpoint), "--labels", str(labels), "--target", "ort"]
    output = tmp_path / "out"
    assert main([*arguments, "--calibration-data", str(photos), "--output", str(output)]) == 0
    report = json.loads((output / "report.json").read_text(encoding="utf-8"))
    assert report["calibration"]["images"] == 16
    assert report["reference"]["n"] == 4
    assert "not_measured" in report["targets"]["ort"]["accuracy"]
    assert isinstance(report["targets"]["ort"]["agreement_with_reference"], float)


@pytest.mark.slow
def test_the_python_call_of_the_guide(checkpoint: Path, tmp_path: Path) -> None:
    report = rexnet_export.export(
        checkpoint, targets=["ort"], precision="int8", calibration_images=16, eval_images=48, output=tmp_path / "out"
    )
    ort = report.targets["ort"]
    assert ort.artifact.file.path == tmp_path / "out" / "rexnet_050-int8.ort"
    for result in (ort.artifact, *ort.presets.values()):
        assert stored_file(result.file.path) == result.file
    with pytest.raises(UsageError, match="unknown key 'presicion'"):
        rexnet_export.export(checkpoint, presicion="int8")


@pytest.mark.slow
def test_the_configuration_of_the_guide(checkpoint: Path, tmp_path: Path) -> None:
    guide = (Path(__file__).parents[3] / "docs" / "export.md").read_text(encoding="utf-8")
    text = guide.partition("```toml\n")[2].partition("```")[0]
    assert set(tomllib.loads(text)) >= {"target", "precision", "calibration-images"}
    config = tmp_path / "release.toml"
    config.write_text(text, encoding="utf-8")
    output = tmp_path / "out"
    arguments = ["--config", str(config), "--checkpoint", str(checkpoint), *FEW, "--output", str(output)]
    assert main(arguments) == 0
    assert (output / "rexnet_050-int8.tflite").is_file()


def test_all_means_every_target_that_has_the_precision() -> None:
    assert [target.name for target in chosen(("all",), "fp16")] == ["coreml", "tflite", "gpu"]
    assert [target.name for target in chosen(("ort", "all"), "int8")] == ["coreml", "tflite", "ort", "gpu"]
    assert [target.name for target in chosen(("openvino", "all"), "int8")] == list(TARGETS)
    with pytest.raises(UsageError, match="corml"):
        chosen(("corml",), "int8")


@pytest.mark.parametrize(
    ("command", "flags", "said"),
    [
        ([], ["--w8"], "left out, as they have no w8: tflite, ort, gpu"),
        ([], ["--fp16", "--target", "all"], "left out, as they have no fp16: ort"),
        (["backbone"], ["--w4"], "left out, as they have no w4: tflite, ort\n"),
        ([], ["--int8"], ""),
        ([], ["--fp32", "--target", "ort"], ""),
    ],
)
def test_what_all_leaves_out_is_said(
    command: list[str], flags: list[str], said: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, *flags, "--checkpoint", str(tmp_path / "none.pth"), "--output", str(tmp_path / "out")]) != 0
    messages = capfd.readouterr().err
    assert said in messages
    assert said or "left out" not in messages


def test_the_command_line_waits_for_no_toolchain() -> None:
    code = (
        "import sys; from rexnet_export.apps.export.command import parser; parser(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-P", "-c", code], check=True)


def test_a_toolchain_that_is_missing_is_told_before_torch_is_loaded() -> None:
    code = (
        "import sys\n"
        "from rexnet_export.apps.export.command import main\n"
        "from rexnet_export.pipeline.core import extras\n"
        "find = extras.find_spec\n"
        "extras.find_spec = lambda name: None if name == 'openvino' else find(name)\n"
        "assert main(['--target', 'openvino', '--quiet']) == 13\n"
        "assert 'torch' not in sys.modules"
    )
    ran = subprocess.run([sys.executable, "-P", "-c", code], check=False, capture_output=True, text=True)
    assert (ran.returncode, len(ran.stderr.splitlines())) == (0, 1)
    assert ran.stderr.startswith("rexnet-export: OpenVINO needs openvino; run: ")


def test_every_asked_calibration_image_is_used(checkpoint: Path) -> None:
    calibration = gather(Options(checkpoint=str(checkpoint), calibration_images=1024)).calibration
    assert calibration is not None
    assert len(set(calibration.indices)) == 1024


def test_one_image_cannot_both_set_and_measure(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    Image.new("RGB", (40, 40)).save(tmp_path / "images" / "only.png")
    labels = tmp_path / "labels.json"
    labels.write_text(json.dumps([f"thing {index}" for index in range(10)]), encoding="utf-8")
    with pytest.raises(DataError, match="one image"):
        gather(Options(checkpoint=str(checkpoint), calibration_data=tmp_path / "images", labels=labels))


@pytest.mark.slow
def test_a_second_run_replaces_the_first(checkpoint: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    (output / "rexnet_050-int8.ort").mkdir(parents=True)
    (output / "manifest.json").write_text("old", encoding="utf-8")
    assert main(["--checkpoint", str(checkpoint), "--target", "ort", *FEW, "--output", str(output)]) == 0
    assert (output / "rexnet_050-int8.ort").is_file()
    assert json.loads((output / "manifest.json").read_text(encoding="utf-8"))


def swallowed(terminal: Terminal) -> None:
    with suppress(BaseException):
        signal.raise_signal(signal.SIGINT)
    with terminal.stage("next", 2, "steps") as bar:
        bar.advance()


def reworded(_: Terminal) -> None:
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        raise RuntimeError("the toolchain's own words") from None


@pytest.mark.parametrize("toolchain", [swallowed, reworded])
def test_an_interrupt_stops_whatever_a_toolchain_makes_of_it(
    capfd: pytest.CaptureFixture[str], toolchain: Callable[[Terminal], None]
) -> None:
    def body(terminal: Terminal) -> int:
        toolchain(terminal)
        return 0

    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert run_command("test", body, quiet=False, debug=False) == 130
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    said = capfd.readouterr().err
    assert "interrupted" in said
    assert "own words" not in said


def refused(capfd: pytest.CaptureFixture[str], code: int, output: Path, *arguments: str) -> str:
    """Run a command that must fail; returns its one line."""
    assert main([*arguments, "--output", str(output)]) == code
    line = capfd.readouterr().err.strip()
    assert len(line.splitlines()) == 1, line
    assert line.startswith("rexnet-export: ")
    assert not output.exists(), "something was left behind"
    return line


def test_bad_checkpoints(capfd: pytest.CaptureFixture[str], tmp_path: Path, checkpoint: Path) -> None:
    output = tmp_path / "out"
    assert "nowhere.pth" in refused(capfd, 10, output, "--checkpoint", str(tmp_path / "nowhere.pth"))
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(checkpoint.read_bytes()[:1000])
    assert "cut.safetensors" in refused(capfd, 10, output, "--checkpoint", str(cut))
    empty = tmp_path / "empty.pth"
    empty.touch()
    assert "empty.pth" in refused(capfd, 10, output, "--checkpoint", str(empty))
    torch.save({"layer.weight": torch.ones(3, 3)}, tmp_path / "other.pth")
    assert "other.pth" in refused(capfd, 10, output, "--checkpoint", str(tmp_path / "other.pth"))
    spoilt = ReXNet(architecture(width=0.5, classes=10, stages=SHORT))
    with torch.no_grad():
        spoilt.stem.conv.weight[0, 0, 0, 0] = torch.nan
    torch.save(spoilt.state_dict(), tmp_path / "nan.pth")
    assert "stem.conv.weight" in refused(capfd, 10, output, "--checkpoint", str(tmp_path / "nan.pth"))


class Payload:
    """What unpickling it would do is make a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.folder),)


def test_a_pickle_that_runs_code_does_not_run(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    torch.save(Payload(tmp_path / "ran"), tmp_path / "evil.pth")
    refused(capfd, 10, tmp_path / "out", "--checkpoint", str(tmp_path / "evil.pth"))
    assert not (tmp_path / "ran").exists()


def test_bad_data(capfd: pytest.CaptureFixture[str], tmp_path: Path, checkpoint: Path) -> None:
    output, empty = tmp_path / "out", tmp_path / "empty"
    empty.mkdir()
    assert str(empty) in refused(
        capfd, 11, output, "--checkpoint", str(checkpoint), "--calibration-data", str(empty)
    ).replace("\n", "")
    short = tmp_path / "short.txt"
    short.write_text("one\ntwo\n", encoding="utf-8")
    assert "10 classes" in refused(capfd, 11, output, "--checkpoint", str(checkpoint), "--labels", str(short))


def test_bad_options(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert "multiple of 16" in refused(capfd, 2, output, "--image-size", "100")
    assert "no fp16" in refused(capfd, 2, output, "--target", "ort", "--fp16")
    with pytest.raises(SystemExit) as caught:
        main(["--target", "corml"])
    assert caught.value.code == 2


@pytest.mark.parametrize("name", ["file/out", "long" * 100])
def test_an_output_that_cannot_be_written(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, checkpoint: Path, name: str
) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    assert main(["--checkpoint", str(checkpoint), "--target", "ort", "--output", str(tmp_path / name)]) == 2
    assert "choose a folder you can write to" in capfd.readouterr().err


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 600 KB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", disk], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk(capfd: pytest.CaptureFixture[str], small_disk: Path, checkpoint: Path) -> None:
    line = refused(capfd, 2, small_disk / "out", "--checkpoint", str(checkpoint), "--target", "ort", *FEW)
    assert "disk is full" in line


LONG = ("--effort", "fast", "--calibration-images", "64", "--target", "coreml", "--target", "gpu")


def stop_when(output: Path, written: str, stop: signal.Signals, process: int) -> None:
    """Send the signal as soon as a file of that name ending is in the folder that is being filled."""
    deadline = time.monotonic() + 600
    while not list(output.glob(f".unfinished-*/*{written}")):
        if time.monotonic() > deadline or not Path(f"/proc/{process}").exists():
            return
        time.sleep(0.02)
    os.kill(process, stop)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("title", "stop"),
    [
        pytest.param("calibrating", signal.SIGTERM, id="quantization"),
        pytest.param("converting", signal.SIGINT, id="conversion"),
        pytest.param("running", signal.SIGHUP, id="proof"),
    ],
)
def test_interrupted_in_each_stage(
    checkpoint: Path,
    tmp_path: Path,
    title: str,
    stop: signal.Signals,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "out"
    begin, begun = Terminal.stage, []

    @contextmanager
    def stage(terminal: Terminal, begins: str, total: int, unit: str) -> Iterator[Bar]:
        with begin(terminal, begins, total, unit) as bar:
            begun.append(begins)
            if begins.startswith(title):
                assert list(output.glob(".unfinished-*")), "nothing is being written yet"
                signal.raise_signal(stop)
            yield bar

    monkeypatch.setattr(Terminal, "stage", stage)
    assert main(["--checkpoint", str(checkpoint), "--target", "ort", *FEW, "--output", str(output)]) == 130
    assert begun[-1].startswith(title)
    said = capfd.readouterr().err
    assert "interrupted" in said
    assert "Traceback" not in said
    assert not output.exists()


@pytest.mark.slow
def test_the_program_ends_when_it_is_interrupted(checkpoint: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    process = subprocess.Popen(
        [*COMMAND, "--checkpoint", str(checkpoint), *LONG, "--output", str(output)],
        stderr=subprocess.PIPE,
        text=True,
        # A test run in the background ignores Ctrl-C and its children would inherit that.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    stop_when(output, "float.onnx", signal.SIGINT, process.pid)
    said = process.communicate(timeout=300)[1]
    assert process.returncode == 130
    assert "interrupted" in said
    assert "Traceback" not in said
    assert not output.exists()
