"""`rexnet-gate` as a person runs it: verdicts, exit codes, and one line for everything that cannot be compared."""

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import junitparser
import numpy as np
import pytest
from gate_samples import REFERENCE_WRONG, edit, logits, write_export
from PIL import Image

from rexnet_export.apps.gate import latency_command
from rexnet_export.apps.gate.command import main

ENOUGH = ("--margin", "2")
BOTH = ("--baseline", "baselines", "--float-baseline")
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def gate(capfd: Capture, *given: object) -> tuple[int, str, str]:
    """Exit code, standard output, and standard error, which is one line at most."""
    code = main([str(word) for word in given])
    out, err = capfd.readouterr()
    assert err.count("\n") <= 1
    assert "Traceback" not in err
    return code, out, err


def export(name: str, **wrong: Sequence[int]) -> Path:
    return write_export(Path(name), {key.replace("_", "-"): images for key, images in wrong.items()})


def test_the_usual_course(capfd: Capture) -> None:
    assert gate(capfd, "update", export("one"), "--reason", "the first")[0] == 0
    code, out, err = gate(capfd, "check", export("two"), *ENOUGH)
    assert (code, err) == (0, "")
    assert out.rstrip().splitlines()[-1].startswith("PASS: ")
    code, out, err = gate(capfd, "check", export("worse", ort=range(140)), *ENOUGH)
    assert code == 1
    assert "FAIL, broken at ort" in out
    assert re.match(r"rexnet-gate: FAIL, broken at ort: ort chain, ort [\w, -]+: drop \+25\.00 points, at least", err)
    assert err.count("drop +25.00 points") == 1
    assert "photos/40.png (owl)" not in out
    assert "photos/40.png (dog): dog 96% -> owl 96%" in out


def test_json_says_the_same(capfd: Capture) -> None:
    code, out, _ = gate(capfd, "check", export("one", ort=range(140)), "--float-baseline", *ENOUGH, "--json")
    content = json.loads(out)
    assert code == content["exit_code"] == 1
    assert content["broken_stage"] == "ort"
    assert content["policy"]["margin"] == 0.02
    assert content["policy"]["tolerance"] == 0.01
    assert len(next(one for one in content["checks"] if one["name"] == "float")["flips"]) == 100


def test_too_few_images_fail_or_warn(capfd: Capture) -> None:
    code, out, err = gate(capfd, "check", export("one"), "--float-baseline")
    assert code == 3
    assert "INCONCLUSIVE" in out
    assert "cannot decide a margin of 0.5; about 198 more images are needed" in err
    code, out, err = gate(capfd, "check", "one", "--float-baseline", "--on-inconclusive", "warn")
    assert (code, err) == (0, "")
    assert "INCONCLUSIVE" in out


def test_each_side_is_a_folder_a_file_or_a_folder_of_baselines(capfd: Capture) -> None:
    export("one")
    gate(capfd, "update", "one", "--reason", "the first", "--baselines", "kept")
    for baseline in ("one", "kept", "kept/rexnet_100", "kept/rexnet_100/ort.json"):
        code, out, _ = gate(capfd, "check", "one", "--baseline", baseline, *ENOUGH)
        assert code == 0
        assert ("ort x86" in out) == (baseline != "kept/rexnet_100/ort.json")


def test_either_command_knows_the_others_word_for_baselines(capfd: Capture) -> None:
    assert gate(capfd, "update", export("one"), "--reason", "the first", "--baseline", "kept")[0] == 0
    assert not Path("baselines").exists()
    assert gate(capfd, "check", "one", "--baselines", "kept", *ENOUGH)[0] == 0
    for command, shown in (("check", "--baseline"), ("update", "--baselines")):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        assert set(re.findall(r"--baselines?\b", capfd.readouterr().out)) == {shown}


def test_the_floats_own_margin(capfd: Capture) -> None:
    wrong = {name: range(60) for name in ("onnx_quantized", "ort", "ort_x86")}
    export("one", **wrong)
    assert gate(capfd, "check", "one", "--float-baseline", *ENOUGH)[0] == 1
    assert gate(capfd, "check", "one", "--float-baseline", *ENOUGH, "--float-margin", "10")[0] == 0


def test_a_name_with_a_line_break_is_still_one_line(capfd: Capture) -> None:
    """On GitHub a line that starts with `::` is a command to its runner."""
    code, _, err = gate(capfd, "check", "out\n::add-mask::a", "--float-baseline")
    assert code == 2
    assert err.startswith("rexnet-gate: out ::add-mask::a is no folder")


def test_no_baseline(capfd: Capture) -> None:
    code, _, err = gate(capfd, "check", export("one"))
    assert code == 6
    assert "baseline baselines does not exist; write one with: rexnet-gate update one --reason TEXT" in err
    code, _, err = gate(capfd, "check", export("one"), "--baseline", "elsewhere")
    assert code == 6
    assert "write one with: rexnet-gate update one --baselines elsewhere --reason TEXT" in err


def test_a_baseline_that_changed_without_a_reason(capfd: Capture) -> None:
    gate(capfd, "update", export("one"), "--reason", "the first")
    path = Path("baselines/rexnet_100/ort.json")
    path.write_text(path.read_text().replace('"processor": "', '"processor": "not '))
    code, _, err = gate(capfd, "check", "one", *ENOUGH)
    assert code == 6
    assert "changed without a reason" in err


def test_worse_baselines_must_be_meant(capfd: Capture) -> None:
    gate(capfd, "update", export("one"), "--reason", "the first")
    export("worse", ort=range(41))
    code, _, err = gate(capfd, "update", "worse", "--reason", "smaller")
    assert code == 1
    assert "ort 90.00% -> 89.75%" in err
    code, out, _ = gate(capfd, "update", "worse", "--reason", "smaller", "--accept-regression", "--json")
    assert code == 0
    assert [one["changed"] for one in json.loads(out)["updated"]] == [True, False]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--margin", "0"), "margin 0: must be points between 0.0001 and 100"),
        (("--margin", "100"), "margin 100: must be"),
        (("--margin", "nan"), "margin nan: must be"),
        (("--float-margin", "-1"), "margin -1: must be"),
        (("--tolerance", "3"), "tolerance 3: must be from 0 to the margin"),
        (("--ratio", "2"), "ratio 2: must be"),
        (("--fail-alpha", "1"), "fail-alpha 1: must be"),
        (("--target", "tflite"), "--target tflite: one has ort, ort x86"),
    ],
)
def test_senseless_flags(capfd: Capture, flags: Sequence[str], said: str) -> None:
    code, _, err = gate(capfd, "check", export("one"), "--float-baseline", *flags)
    assert code == 2
    assert said in err


def test_wrong_usage(capfd: Capture) -> None:
    for given in (["check"], ["update", "one"], ["check", "one", "--margin", "some"], [], ["chek"]):
        with pytest.raises(SystemExit) as stopped:
            main(given)
        assert stopped.value.code == 2
    capfd.readouterr()
    assert gate(capfd, "check", "nowhere", "--float-baseline")[0] == 2
    assert gate(capfd, "update", export("one"), "--reason", " ")[0] == 2
    assert gate(capfd, "update", "one", "--reason", "why", "--target", "tflite")[0] == 2


@pytest.mark.parametrize(
    "arrays",
    [{"ort": logits(400, ()) * np.float32(np.nan)}, {"ids": np.array(["same"] * 400)}, {"labels": None}, {"ort": None}],
)
def test_worthless_predictions(capfd: Capture, arrays: dict[str, np.ndarray]) -> None:
    edit(export("one"), arrays)
    assert gate(capfd, "check", "one", "--float-baseline")[0] == 11
    assert gate(capfd, "update", "one", "--reason", "why")[0] == 11


def test_an_edited_report(capfd: Capture) -> None:
    path = export("one") / "report.json"
    path.write_text(path.read_text().replace("rexnet_100", "rexnet_130"))
    code, _, err = gate(capfd, "check", "one", "--float-baseline")
    assert code == 11
    assert "report.json is not what manifest.json says" in err


def test_other_images(capfd: Capture) -> None:
    write_export(Path("more"), images=500)
    code, _, err = gate(capfd, "check", export("one"), "--baseline", "more")
    assert code == 6
    assert "400 and 500 images" in err


def test_plan(capfd: Capture) -> None:
    code, out, _ = gate(capfd, "plan", "--images", "1000", "--discordance", "5", "--margin", "1")
    assert code == 0
    for number in ("3,090", "3,092", "12,359", "1.76 points", "2,092 more images"):
        assert number in out
    code, out, _ = gate(capfd, "plan", "--images", "10000", "--discordance", "3", "--margin", "1", "--json")
    assert json.loads(out)["missing"] == 0
    code, out, _ = gate(capfd, "plan", "--images", "500", "--discordance", "0", "--margin", "0.5", "--json")
    assert json.loads(out)["missing"] == 98
    assert json.loads(out)["rows"][0]["to_detect"] is None


@pytest.mark.parametrize(
    "flags",
    [
        ("0", "5", "1"),
        ("9", "-1", "1"),
        ("9", "101", "1"),
        ("9", "nan", "1"),
        ("9", "5", "0"),
        ("9", "5", "100"),
        ("9", "5", "1e-200"),
        ("9" * 20, "5", "1"),
    ],
)
def test_senseless_plans(capfd: Capture, flags: tuple[str, str, str]) -> None:
    images, discordance, margin = flags
    given = ("plan", "--images", images, "--discordance", discordance, "--margin", margin)
    assert gate(capfd, *given)[0] == 2


def test_latency_is_another_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency_command, "main", lambda argv: 40 + len(argv))
    assert main(["latency", "a", "b"]) == 42


FILES = ("--junit", "j.xml", "--markdown", "m.md", "--benchmark-bigger", "top1.json", "--bencher", "b.json")


def cases(path: str = "j.xml") -> dict[tuple[str, str], junitparser.TestCase]:
    found = [case for suite in junitparser.JUnitXml.fromfile(path) for case in suite]
    named = {(case.classname, case.name): case for case in found}
    assert len(named) == len(found)
    return named


def test_a_failing_gate_writes_its_files(capfd: Capture) -> None:
    gate(capfd, "update", export("one"), "--reason", "the first")
    export("worse", ort=range(140))
    code, out, _ = gate(capfd, "check", "worse", *BOTH, *ENOUGH, "--ratio", "0.99", *FILES, "--json")
    assert code == 1
    found = cases()
    asked = json.loads(out)["checks"]
    assert len(found) == len(asked)
    assert {target for target, _ in found} == {"torch", "float", "equalized", "quantized", "ort", "ort x86"}
    failed = {place for place, case in found.items() if case.is_failure}
    assert failed == {("ort", name) for name in ("chain", "baseline", "anchor-float", "float", "ratio to torch")} | {
        ("ort", "ratio to baselines/rexnet_100/ort.json")
    }
    (failure,) = found["ort", "chain"].result
    assert failure.type == "FAIL, certain"
    assert failure.message.startswith("drop +25.00 points, at least")
    assert "FAIL, broken at ort" in Path("m.md").read_text()
    assert "| :x: | ort | chain | FAIL, certain | 65.00% | +25.00 |" in Path("m.md").read_text()
    assert "photos/40.png (dog): dog 96% -&#62; owl 96%" in Path("m.md").read_text()
    top1 = {entry["name"]: entry["value"] for entry in json.loads(Path("top1.json").read_text())}
    assert top1["rexnet_100 int8 ort: top-1"] == 65.0
    assert top1["rexnet_100 int8 ort x86: top-1"] == 90.0
    measures = json.loads(Path("b.json").read_text())["rexnet_100 int8 ort"]
    assert measures["drop-baseline"]["value"] == 25.0
    assert 20 < measures["drop-baseline"]["lower_value"] < 25 < measures["drop-baseline"]["upper_value"] < 30


@pytest.mark.parametrize(("policy", "code", "kind"), [("fail", 3, junitparser.Error), ("warn", 0, junitparser.Skipped)])
def test_too_few_images_in_files(capfd: Capture, policy: str, code: int, kind: type) -> None:
    given = ("--float-baseline", "--on-inconclusive", policy)
    assert gate(capfd, "check", export("one"), *given, *FILES)[0] == code
    (result,) = cases()["ort", "float"].result
    assert type(result) is kind
    assert "cannot decide a margin of 0.5; about 198 more images are needed" in result.message
    assert cases()["float", "agreement"].is_passed


def test_what_was_not_compared_is_an_error_in_files(capfd: Capture) -> None:
    gate(capfd, "update", export("one"), "--reason", "the first", "--target", "ort")
    code, _, err = gate(capfd, "check", "one", *ENOUGH, *FILES)
    assert code == 6
    assert [place for place, case in cases().items() if case.is_error] == [("ort x86", "baseline")]
    code, _, err = gate(capfd, "check", "one", "--baseline", "nowhere", *FILES)
    assert code == 6
    (result,) = cases()["rexnet-gate check", "run"].result
    assert err == f"rexnet-gate: {result.message}\n"


def test_a_path_is_refused_before_anything_is_read(capfd: Capture) -> None:
    code, _, err = gate(capfd, "check", "nowhere", "--markdown", "/proc/x/m.md")
    assert code == 2
    assert err.startswith("rexnet-gate: --markdown /proc/x/m.md cannot be written")


def test_on_github(capfd: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "summary.md")
    code = main(["check", str(export("one", ort=range(140))), "--float-baseline", *ENOUGH, "--json"])
    out, err = capfd.readouterr()
    assert code == json.loads(out)["exit_code"] == 1
    assert [line.split("::")[1] for line in err.splitlines() if line.startswith("::")] == [
        "error title=rexnet-gate check%3A ort chain%2C ort float%2C FAIL%2C certain",
    ]
    assert Path("summary.md").read_text().startswith("### :x: rexnet-gate check: FAIL, broken at ort\n")


def test_a_real_export_can_be_gated(exported: Path, capfd: Capture) -> None:
    folder = Path(shutil.copytree(exported, "real"))
    code, out, _ = gate(capfd, "check", folder, "--baseline", exported, "--margin", "30", "--json")
    content = json.loads(out)
    assert code == 0, content
    targets = {one["target"] for one in content["checks"] if one["name"] == "baseline"}
    assert {"torch", "float", "quantized", "coreml", "tflite", "ort", "ort x86", "gpu"} <= targets


def test_a_page_shows_the_flipped_images(tmp_path: Path, capfd: Capture) -> None:
    candidate = write_export(Path("candidate"), {"ort": (*REFERENCE_WRONG, 50, 60)})
    for number in (50, 60):
        (tmp_path / "eval" / "photos").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "eval" / "photos" / f"{number}.png")
    page = tmp_path / "gate.html"
    flags = ("--float-baseline", "--margin", "30", "--html", page)
    assert gate(capfd, "check", candidate, *flags)[0] == 0
    text = page.read_text(encoding="utf-8")
    assert "<h2>ort float: 2 images flipped</h2>" in text
    assert "In points" in text
    assert "data:image/png" not in text, "nobody said where the images are"
    assert gate(capfd, "check", candidate, *flags, "--images", tmp_path / "eval")[0] == 0
    assert page.read_text(encoding="utf-8").count("data:image/png;base64,") == 2


def test_a_verdict_stands_without_pictures(tmp_path: Path, capfd: Capture) -> None:
    candidate = write_export(Path("candidate"), {"ort": (*REFERENCE_WRONG, 50)})
    (tmp_path / "other").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "other" / "1.png")
    page = tmp_path / "gate.html"
    flags = ("--float-baseline", "--margin", "30", "--html", page, "--images", tmp_path / "other")
    code, _, err = gate(capfd, "check", candidate, *flags)
    assert code == 0
    assert "has no photos/50.png" in err
    assert "1 image flipped" in page.read_text(encoding="utf-8")


def test_names_on_the_terminal_command_nothing(capfd: Capture) -> None:
    candidate = write_export(Path("candidate"), {"ort": (*REFERENCE_WRONG, 50)})
    ids = np.array([f"photos/{index}.png" for index in range(400)], dtype="<U40")
    ids[50] = "a\n::error::x \x1b[31mred"
    edit(candidate, {"ids": ids})
    code, out, _ = gate(capfd, "check", candidate, "--float-baseline", "--margin", "30")
    assert code == 0
    assert "::error::x" in out
    assert "\n::error" not in out
    assert "\x1b[31m" not in out
