"""Targets that other packages register: one entry point, and everything knows them; one that is broken is one line."""

import json
import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from small_export import FEW, small_checkpoint

from rexnet_export import targets
from rexnet_export.apps.export import options
from rexnet_export.apps.export.command import main
from rexnet_export.pipeline.core.errors import TargetUnavailable
from rexnet_export.targets import OURS, TARGETS, chosen, registered

ROOT = Path(__file__).parents[2]
ENTRY = "[rexnet_export.targets]\nwrapped = wrapped_target:Wrapped\n"


def environment(folder: Path, entry: str = ENTRY) -> dict[str, str]:
    """That of a process where the package of `plugin/` is installed."""
    installed = folder / "wrapped_target-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: wrapped-target\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text(entry)
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT / "tests/targets/plugin")])}


def run(env: dict[str, str], module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", module, *arguments]
    return subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=False, timeout=900)


@pytest.mark.slow
def test_the_command_offers_exports_and_verifies_it(tmp_path: Path) -> None:
    env = environment(tmp_path)
    program = "rexnet_export.apps.export.command"
    assert ",wrapped,all}" in run(env, program, "--help").stdout
    checkpoint = str(small_checkpoint(tmp_path / "small.safetensors"))
    done = run(env, program, "--checkpoint", checkpoint, "--target", "wrapped", *FEW, "--output", f"{tmp_path}/out")
    assert done.returncode == 0, done.stderr
    assert "wrapped" in done.stdout
    report = json.loads((tmp_path / "out/report.json").read_text())
    found = report["targets"]["wrapped"]
    assert found["executed_by"].startswith("ONNX Runtime")
    assert found["int8_mac_fraction"] == 1
    assert found["artifact"].endswith("-int8.wrapped")
    assert found["artifact"] in (tmp_path / "out/report.html").read_text()
    verified = run(env, program, "verify", f"{tmp_path}/out", "--eval-images", "16", "--trace-images", "1")
    assert verified.returncode == 0, verified.stderr
    assert found["artifact"] in verified.stdout


@pytest.mark.slow
def test_the_contract_holds_it_too(tmp_path: Path) -> None:
    tests = ("all_is_written", "store_the_quantization", "golden_logits", "something_else", "on_its_grid")
    asked = f"wrapped-int8-plain and ({' or '.join(tests)})"
    done = run(environment(tmp_path), "pytest", "-q", "-n0", "tests/targets/test_contract.py", "-k", asked)
    assert done.returncode == 0, done.stdout
    assert "5 passed" in done.stdout


class Taken:
    """A whole target, but for what is changed in it."""

    name, precisions, suffixes = "mine", ("fp32",), (".mine",)
    require = convert = open = inspect = None


class TakesAName(Taken):
    name = "tflite"


class TakesASuffix(Taken):
    suffixes = (".mine", ".ort")


class HasABadName(Taken):
    name = "all"


class HasNoPrecision(Taken):
    precisions = ()


class CannotInspect:
    name, precisions, suffixes = "mine", ("fp32",), (".mine",)
    require = convert = open = None


class Stops(Taken):
    def __init__(self) -> None:
        raise SystemExit("no licence\nat all")


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        (TakesAName, "there is a target 'tflite' already"),
        (TakesASuffix, "files that end in .ort are those of target 'ort'"),
        (HasABadName, "'all' is no name of a target: use lower-case letters, digits and _"),
        (HasNoPrecision, "its precisions are (), not one or more of int8, fp16, fp32, w8, w4"),
        (CannotInspect, "it has no 'inspect'"),
        (Stops, "SystemExit: no licence"),
    ],
)
def test_a_plugin_that_is_no_target_is_one_line(target: type, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EntryPoint, "load", lambda _: target)
    found, broken = registered(OURS, [EntryPoint("bad", "package:Target", "rexnet_export.targets")])
    assert list(found) == list(OURS)
    assert broken == {"bad": f"target plugin 'bad' of package:Target cannot be used: {reason}"}


def test_a_plugin_that_cannot_be_imported_is_one_line() -> None:
    found, broken = registered({}, [EntryPoint("gone", "no_such_package:Target", "rexnet_export.targets")])
    assert list(found) == []
    assert broken["gone"].endswith("cannot be used: ModuleNotFoundError: No module named 'no_such_package'")


def test_a_whole_plugin_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EntryPoint, "load", lambda _: Taken)
    found, broken = registered(OURS, [EntryPoint("mine", "package:Taken", "rexnet_export.targets")])
    assert list(found) == [*OURS, "mine"]
    assert isinstance(found["mine"], Taken)
    assert broken == {}


def test_a_broken_plugin_stops_those_who_ask_for_it(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(targets, "BROKEN", {"bad": "target plugin 'bad' of x cannot be used: y"})
    for module in (options, targets):
        monkeypatch.setattr(module, "WORDS", (*targets.WORDS, "bad"))
    assert [target.name for target in chosen(["tflite"], "int8")] == ["tflite"]
    for names in (["bad"], ["all"]):
        with pytest.raises(TargetUnavailable, match="cannot be used: y; mend or uninstall it"):
            chosen(names, "int8")
    assert main(["--target", "bad"]) == 13
    assert capfd.readouterr().err.count("\n") == 1


def test_the_readme_lists_every_target_of_ours() -> None:
    rows = {
        line.split("`")[1]: line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("| `")
    }
    ours = [target for target in TARGETS.values() if type(target).__module__.startswith("rexnet_export.")]
    assert [name for name in rows if name in TARGETS] == [target.name for target in ours]
    for target in ours:
        assert target.suffixes[0] in rows[target.name]
        fp16 = rows[target.name].split("|")[3].strip()
        assert (fp16 == "no") is ("fp16" not in target.precisions)


@pytest.mark.parametrize("name", OURS)
def test_what_is_listed_is_what_the_class_says(name: str) -> None:
    target, listed = TARGETS[name], OURS[name]
    assert (target.name, target.precisions, target.suffixes) == (name, listed.precisions, listed.suffixes)


def test_only_what_is_asked_for_is_imported() -> None:
    code = (
        "import sys; from rexnet_export.targets import TARGETS, chosen; chosen(['tflite'], 'int8')\n"
        "sys.exit([name for name in TARGETS if f'rexnet_export.targets.{name}.target' in sys.modules] != ['tflite'])"
    )
    assert subprocess.run([sys.executable, "-P", "-c", code], check=False).returncode == 0
