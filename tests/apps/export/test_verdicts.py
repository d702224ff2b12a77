"""One verdict a command, in every output, and it is the exit code's: verify, rebuild, export, npu, sweep and doctor.

The gates' are in `apps/gate/test_verdicts.py`, those of rexnet-bench and of what only makes files in
`apps/test_endings.py`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from report_samples import made, report

from rexnet_export.apps.export import run_export
from rexnet_export.apps.export.command import main
from rexnet_export.apps.export.doctor import run_doctor
from rexnet_export.apps.export.doctor.doctor_json import DoctorJson, TargetJson
from rexnet_export.apps.export.npu import run_npu
from rexnet_export.apps.export.npu.chips import VENDORS, Chip
from rexnet_export.apps.export.npu.npu_json import ChipJson, NpuJson, SourceJson
from rexnet_export.apps.export.sweep import run_sweep
from rexnet_export.apps.export.sweep.sweep_json import SweepJson, TimingsJson, TrialRow
from rexnet_export.apps.export.verify import run_rebuild, run_verify
from rexnet_export.apps.shared.trials.outcome import Failed
from rexnet_export.pipeline.artifact.self_test import SelfTest, Tolerance
from rexnet_export.pipeline.core.errors import ConversionError, ExportError, GateFailed, TargetUnavailable
from rexnet_export.pipeline.core.records import NotMeasured, StoredFile
from rexnet_export.pipeline.finished.rebuild import Rebuilt
from rexnet_export.pipeline.machine.environment import environment
from rexnet_export.pipeline.proof.examine import Finding
from rexnet_export.pipeline.proof.verify import Verification

Patch = pytest.MonkeyPatch
Capture = pytest.CaptureFixture[str]
WHY = NotMeasured(reason="it was not asked")


def said(command: Sequence[str], code: int, capfd: Capture) -> tuple[list[str], list[str]]:
    """What a command that ends so says on standard output, and on standard error."""
    assert main(list(command)) == code
    out, err = capfd.readouterr()
    return out.rstrip().splitlines(), err.rstrip().splitlines()


def agrees(command: Sequence[str], code: int, last: str, capfd: Capture, *, on: str) -> dict[str, Any]:
    """The last line of a run, plain, quiet and as JSON, which it gives: an error says the same in all of them."""
    out, err = said(command, code, capfd)
    ends = out if on == "out" and not code else err
    assert ends[-1].startswith(last)
    assert not any("done: " in line or "PASS" in line for line in [*out, *err] if code)
    out, err = said([*command, "--quiet"], code, capfd)
    assert out == []
    assert [line.startswith(last) for line in err] == ([True] if code else [])
    out, err = said([*command, "--json"], code, capfd)
    if code:
        assert err[-1].startswith(last)
    content: dict[str, Any] = json.loads("\n".join(out))
    return content


TESTED = SelfTest(
    passed=True,
    n=4,
    largest_difference=0.0,
    mean_difference=0.0,
    tolerance=Tolerance(largest=1.0, mean=1.0),
    largest_steps=0.0,
    same_top1=4,
    executed_then="LiteRT 2.1.2",
    executed_now="LiteRT 2.1.2",
)
WHOLE: dict[str, Any] = {"problems": (), "vouched_by": "manifest.json", "executed_by": "LiteRT 2.1.2", "compressed": {}}
BROKEN = {"problems": ("its content is not what manifest.json says",)}
ALONE = {"vouched_by": NotMeasured(reason="nothing beside it knows it")}
UNRUN = {"executed_by": NotMeasured(reason="needs VNNI"), "self_test": NotMeasured(reason="needs VNNI")}
SQUEEZED = {"compressed": {"stem": "4-bit palettes"}}
FAILED = "rexnet-export verify: FAIL: {} of 2 files failed; "


def finding(name: str, **changed: object) -> Finding:
    content: dict[str, Any] = {
        "file": StoredFile(path=Path(name), sha256="a" * 64, bytes=1),
        "card": WHY,
        "precision": "int8",
        "self_test": TESTED,
        "holds_table": True,
        "coverage": WHY,
        "qparams": {},
    }
    return Finding(name=name, **(content | WHOLE | changed))


@pytest.mark.parametrize(
    ("one", "other", "code", "last"),
    [
        ({}, {}, 0, "PASS: 2 files are what was written"),
        (ALONE, {}, 0, "PASS, consistent but not proven: 2 files are"),
        (SQUEEZED, {}, 0, "PASS, but not as it was written: a.ort was compressed since"),
        (SQUEEZED, ALONE, 0, "PASS, but not as it was written"),
        (UNRUN, {}, 0, "PASS, not proven: a.ort cannot be executed here: needs VNNI"),
        (UNRUN, SQUEEZED, 0, "PASS, not proven: a.ort cannot be executed here"),
        (BROKEN, {}, 12, FAILED.format(1) + "a.ort: its content"),
        (BROKEN, BROKEN, 12, FAILED.format(2) + "a.ort, b.ort: its content"),
        (BROKEN, UNRUN, 12, FAILED.format(1)),
        (ALONE | BROKEN, SQUEEZED, 12, FAILED.format(1)),
    ],
)
def test_of_verify(
    one: dict[str, Any], other: dict[str, Any], code: int, last: str, monkeypatch: Patch, capfd: Capture
) -> None:
    found = Verification(
        findings=(finding("a.ort", **one), finding("b.ort", **other)), images=WHY, logits=WHY, tensors=WHY
    )
    monkeypatch.setattr(run_verify.proof, "verify", lambda *_: found)
    content = agrees(["verify", "a.ort", "b.ort"], code, last, capfd, on="out")
    if code:
        out, _ = said(["verify", "a.ort", "b.ort"], code, capfd)
        assert not any("FAIL:" in line or "its content" in line for line in out)  # the error has said it
    assert content["proven"] == last.startswith("PASS: ")
    assert any(file["problems"] for file in content["files"]) == (code == 12)


def test_files_that_nothing_vouches_for_are_one_line(monkeypatch: Patch, capfd: Capture) -> None:
    found = Verification(
        findings=tuple(finding(name, **ALONE, **SQUEEZED) for name in "abc"), images=WHY, logits=WHY, tensors=WHY
    )
    monkeypatch.setattr(run_verify.proof, "verify", lambda *_: found)
    out, _ = said(["verify", "a"], 0, capfd)
    assert "a, b, c: nothing beside it knows it" in out
    assert sum("4-bit palettes" in line for line in out) == 1


@pytest.mark.parametrize(
    ("differing", "reasons", "code", "last"),
    [
        ((), (), 0, "PASS: every file that can be compared"),
        (("a.ort",), ("onnx was 1.0",), 12, "rexnet-export verify: FAIL: out: 1 of 2 files are others"),
        (("a.ort",), (), 12, "rexnet-export verify: FAIL: out: 1 of 2 files are others"),
    ],
)
def test_of_a_rebuild(
    differing: tuple[str, ...], reasons: tuple[str, ...], code: int, last: str, monkeypatch: Patch, capfd: Capture
) -> None:
    same = ("b.ort",) if differing else ("a.ort", "b.ort")
    found = Rebuilt(folder=Path("out"), same=same, differing=differing, not_compared=(), reasons=reasons)
    monkeypatch.setattr(run_rebuild, "rebuild", lambda *_: found)
    content = agrees(["verify", "out", "--rebuild", "net.pth"], code, last, capfd, on="out")
    assert content["rebuilt"] == (code == 0)


LOST = replace(made("a.ort"), accuracy=replace(made("a.ort").accuracy, drop=0.1, drop_lower_95=0.05))  # type: ignore[type-var]
KEPT = replace(made("a.ort"), accuracy=replace(made("a.ort").accuracy, drop_upper_95=0.001))  # type: ignore[type-var]
UNKNOWN = replace(made("a.ort"), accuracy=WHY)


@pytest.mark.parametrize("file", [LOST, KEPT, UNKNOWN, made("a.ort")])
def test_of_an_export(file: Any, monkeypatch: Patch, capfd: Capture) -> None:  # noqa: ANN401 - a result
    """It is no gate: what the accuracy is stands above the line, and the files are there."""
    monkeypatch.setattr(run_export, "make_export", lambda *_: report(ort=file))
    content = agrees(["--target", "ort"], 0, "done: 2 files in ", capfd, on="out")
    assert set(content["targets"]) == {"ort"}


@pytest.mark.parametrize("failure", [GateFailed("--max-drop 1 is not kept"), ConversionError("ort: no")])
def test_of_an_export_that_failed(failure: ExportError, monkeypatch: Patch, capfd: Capture) -> None:
    def fails(*_: object) -> None:
        raise failure

    monkeypatch.setattr(run_export, "make_export", fails)
    for shown in ([], ["--json"], ["--quiet"]):
        assert said(["--target", "ort", *shown], failure.exit_code, capfd) == ([], [f"rexnet-export: {failure}"])


def compiled(name: str, *, whole: bool) -> ChipJson:
    left = {} if whole else {"MEAN": 2}
    return ChipJson(
        vendor="Qualcomm",
        chip=name,
        file=f"net_{name}.tflite",
        sha256="a" * 64,
        bytes=1,
        whole=whole,
        operators=6,
        operators_on_npu=6 - sum(left.values()),
        partitions=1,
        fallback=left,
        parameters=WHY,
        executed_by=WHY,
        seconds=1.0,
        sdk="v2",
    )


APART = "net-npu/net_{}.tflite: not whole on the NPU: 4 of 6 operators in 1 partition; left to the processor: 2 MEAN"
NPU = [
    ((True,), (), 0, "done: 1 file in net-npu/, whole on the NPU, not executed"),
    ((True, True), (), 0, "done: 2 files in net-npu/, whole"),
    ((False, True), (), 12, APART.format("SM1")),
    ((False, False), (), 12, "net-npu/net_SM1.tflite, net-npu/net_SM2.tflite: not whole on the NPU: 4 of 6"),
    ((True,), (TargetUnavailable("no plugin"),), 13, "1 chip of 2 not compiled: MediaTek MT0: no plugin"),
    (
        (True,),
        (ConversionError("it fails"), TargetUnavailable("no plugin")),
        12,
        "2 chips of 3 not compiled: MediaTek MT0: it fails; MediaTek MT1: no plugin",
    ),
    (
        (False,),
        (TargetUnavailable("no plugin"),),
        13,
        APART.format("SM1") + "; 1 chip of 2 not compiled: MediaTek MT0: no plugin",
    ),
]


def npu_result(wholes: tuple[bool, ...], failures: tuple[ExportError, ...]) -> tuple[NpuJson, dict[Chip, ExportError]]:
    failed = {Chip(vendor=VENDORS[1], name=f"MT{number}"): failure for number, failure in enumerate(failures)}
    record = NpuJson(
        source=SourceJson(file="net.tflite", sha256="a" * 64, bytes=1, operators={}),
        chips=tuple(compiled(f"SM{number}", whole=whole) for number, whole in enumerate(wholes, 1)),
        not_compiled={chip.named: str(failure) for chip, failure in failed.items()},
        ai_pack=WHY,
        packages={},
        environment=environment(),
    )
    return record, failed


@pytest.mark.parametrize(("wholes", "failures", "code", "last"), NPU)
def test_of_npu(
    wholes: tuple[bool, ...],
    failures: tuple[ExportError, ...],
    code: int,
    last: str,
    tmp_path: Path,
    monkeypatch: Patch,
    capfd: Capture,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.tflite").touch()
    monkeypatch.setattr(run_npu, "find", lambda _: None)
    monkeypatch.setattr(run_npu, "compile_all", lambda *_: npu_result(wholes, failures))
    last = f"rexnet-export npu: {last}" if code else last
    content = agrees(["npu", "net.tflite", "--chips", "SM8650", "--output", "net-npu"], code, last, capfd, on="err")
    assert (code == 0) == (all(chip["whole"] for chip in content["chips"]) and not content["not_compiled"])


@pytest.mark.parametrize(("wholes", "failures", "code", "last"), NPU)
def test_of_an_export_with_chips(
    wholes: tuple[bool, ...],
    failures: tuple[ExportError, ...],
    code: int,
    last: str,
    monkeypatch: Patch,
    capfd: Capture,
) -> None:
    """The chips' line is the last, and nothing before it says that all is done."""
    net = replace(made("net.tflite"), file=replace(made("a").file, path=Path("net.tflite")))
    monkeypatch.setattr(run_export, "make_export", lambda *_: report(tflite=net))
    monkeypatch.setattr(run_export, "find_for", lambda _: argparse.Namespace())
    monkeypatch.setattr(run_npu, "compiled_folder", lambda _: "net-npu")
    monkeypatch.setattr(run_npu, "compile_all", lambda *_: npu_result(wholes, failures))
    last = f"rexnet-export: {last}" if code else last
    agrees(["--target", "tflite", "--npu", "SM8650"], code, last, capfd, on="err")


def trial(name: str, failure: Failed | None) -> TrialRow:
    asked: dict[str, Any] = {"checkpoint": None, "image_size": None, "effort": "fast", "precision": "int8"}
    return TrialRow(name=name, **asked, target="ort", failure=failure, files=())


NO_DISK, NO_DATA = Failed(exit_code=2, reason="the disk is full"), Failed(exit_code=11, reason="no image")


@pytest.mark.parametrize(
    ("failures", "code", "last"),
    [
        ((None, None), 0, "done: 2 trials side by side in swept/, in sweep.html; choose: rexnet-export sweep pick"),
        ((None, NO_DATA), 11, "rexnet-export sweep: 1 of 2 trials failed, the first of them b: no image; go on with"),
        ((NO_DISK, NO_DATA), 2, "rexnet-export sweep: 2 of 2 trials failed, the first of them a: the disk is full; go"),
        ((NO_DATA, NO_DATA), 11, "rexnet-export sweep: 2 of 2 trials failed, the first of them a: no image; go on"),
    ],
)
def test_of_a_sweep(
    failures: tuple[Failed | None, ...], code: int, last: str, tmp_path: Path, monkeypatch: Patch, capfd: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sweep.toml").write_text("efforts = ['fast', 'high']\ntargets = ['ort']\n")
    trials = tuple(trial(name, failure) for name, failure in zip("ab", failures, strict=True))
    found = SweepJson(margin=0.005, images=0, images_sha256=None, best=WHY, trials=trials)
    nothing: Callable[..., Iterator[Any]] = lambda *_: (each for each in ())  # noqa: E731
    monkeypatch.setattr(run_sweep, "in_processes", nothing)
    monkeypatch.setattr(run_sweep, "collected", lambda *_: found)
    monkeypatch.setattr(run_sweep, "timed", lambda *_: TimingsJson(machine="it", files={}))
    command = ["sweep", "sweep.toml", "--output", "swept", "--resume"]
    assert main([*command[:-1]]) == code
    capfd.readouterr()
    content = agrees(command, code, last, capfd, on="err")
    assert [each["failure"] for each in content["trials"]].count(None) == failures.count(None)
    page = Path("swept/sweep.html").read_text()
    for failure in filter(None, failures):
        names = ", ".join(name for name, each in zip("ab", failures, strict=True) if each == failure)
        assert page.count(f"{names}: {failure.reason}") == 1
    assert ('class="note bad"' in page) == bool(code)


WORKS = TargetJson(converted_s=1.0, executed_by="LiteRT 2.1.2", timed=True)
UNCONVERTED = TargetJson(converted_s=WHY, executed_by=WHY, timed=WHY)
UNEXECUTED = TargetJson(converted_s=1.0, executed_by=WHY, timed=WHY)


@pytest.mark.parametrize(
    ("targets", "code", "last"),
    [
        ({"ort": WORKS, "tflite": WORKS}, 0, "works: ort, tflite can be converted and executed here"),
        ({"ort": WORKS, "tflite": UNCONVERTED}, 13, "tflite: cannot be converted: it was not asked"),
        ({"ort": UNEXECUTED, "tflite": WORKS}, 13, "ort: cannot be executed: it was not asked"),
        ({"ort": UNCONVERTED, "tflite": UNCONVERTED}, 13, "ort, tflite: cannot be converted: it was not asked"),
        ({"ort": UNCONVERTED, "tflite": UNEXECUTED}, 13, "ort: cannot be converted: it was not asked; tflite: cannot"),
    ],
)
def test_of_doctor(targets: dict[str, TargetJson], code: int, last: str, monkeypatch: Patch, capfd: Capture) -> None:
    found = DoctorJson(
        works=not code,
        targets=targets,
        plugins_that_fail=("a plugin",),
        extras={},
        npu_compilers=WHY,
        usable_cores=1,
        environment=environment(),
    )
    monkeypatch.setattr(run_doctor, "examine", lambda *_: found)
    last = f"rexnet-export doctor: {last}" if code else last
    content = agrees(["doctor", "--target", "ort"], code, last, capfd, on="out")
    assert content["works"] == (code == 0)
