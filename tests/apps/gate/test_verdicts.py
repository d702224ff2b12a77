"""One verdict in every output, and it is the exit code's: every outcome, under both policies."""

import json
from pathlib import Path

import junitparser
import pytest
from latency_samples import FORMATS, SIGNALS, gate

from rexnet_export.apps.gate import run_check, run_latency
from rexnet_export.apps.gate.accuracy.decision import Policy
from rexnet_export.apps.gate.accuracy.result import Check, CheckOutcome, GateResult
from rexnet_export.apps.gate.command import main
from rexnet_export.apps.gate.words import OnInconclusive

EQUAL, SLOWER, NEAR = (1.0,) * 5, (1.5,) * 5, (1.0, 1.2) * 3
QUIET, BUSY = 100, 200  # nanoseconds of the reference kernel after each pair; before it, 100
ACCURACY = [
    (("pass",), "PASS", 0, 0),
    (("pass", "pass_with_note"), "PASS", 0, 0),
    (("pass", "fail"), "FAIL, broken at ort", 1, 1),
    (("fail_certain", "inconclusive"), "FAIL, broken at ort", 1, 1),
    (("fail", "not_compared"), "FAIL, broken at ort", 1, 1),
    (("pass", "not_compared"), "NOT COMPARED", 6, 6),
    (("pass", "inconclusive"), "INCONCLUSIVE", 3, 0),
    (("pass_with_note", "inconclusive"), "INCONCLUSIVE", 3, 0),
]
LATENCY = [
    (EQUAL, QUIET, FORMATS, "PASS", 0, 0),
    (EQUAL, QUIET, SIGNALS, "FAIL", 1, 1),
    (SLOWER, QUIET, FORMATS, "FAIL", 1, 1),
    (SLOWER, QUIET, SIGNALS, "FAIL", 1, 1),
    (NEAR, QUIET, FORMATS, "INCONCLUSIVE", 3, 0),
    (NEAR, QUIET, SIGNALS, "FAIL", 1, 1),
    (EQUAL, BUSY, FORMATS, "INVALID", 4, 4),
    (EQUAL, BUSY, SIGNALS, "FAIL", 1, 1),
]


def accuracy_result(outcomes: tuple[CheckOutcome, ...], policy: OnInconclusive) -> GateResult:
    rules = Policy(margin=0.005, tolerance=0.0025, on_inconclusive=policy)
    return GateResult(
        candidate="out",
        baseline="baselines",
        model="rexnet_100",
        precision="int8",
        images={"name": "photos", "sha256": "0" * 64, "n": 400},
        policy=rules,
        float_policy=rules,
        checks=tuple(
            Check(target="ort", name=name, outcome=outcome, message=f"why {outcome}")
            for name, outcome in zip(("float", "baseline"), outcomes, strict=False)
        ),
    )


def agrees(
    command: list[str],
    verdict: str,
    code: int,
    folder: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The command's exit code, and the verdict in all that it writes."""
    files = {flag: folder / flag for flag in ("junit", "markdown", "html", "summary")}
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(files["summary"]))
    outputs = [word for flag in ("junit", "markdown", "html") for word in (f"--{flag}", str(files[flag]))]
    assert main([*command, *outputs]) == code
    out, err = capfd.readouterr()
    said = out.rstrip().splitlines()[-1]
    annotations = [line for line in err.splitlines() if line.startswith("::")]
    last = [line for line in err.splitlines() if line not in annotations]
    if code:
        assert said == verdict
        assert f": {verdict}: " in last[-1]
        assert any(line.startswith("::error") for line in annotations)
    else:
        assert said.startswith(verdict)
        assert ("allowed by --on-inconclusive warn" in said) == (verdict == "INCONCLUSIVE")
        assert last == []
        assert not any(line.startswith("::error") for line in annotations)
    (suite,) = junitparser.JUnitXml.fromfile(str(files["junit"]))
    assert {each.name: each.value for each in suite.properties()}["verdict"] == verdict
    assert bool(suite.failures + suite.errors) == bool(code)
    assert bool(suite.failures) == (code == 1)
    for flag in ("markdown", "summary"):
        assert files[flag].read_text().splitlines()[0].endswith(f": {verdict}"), flag
    page = files["html"].read_text()
    assert (
        f'<span class="{"bad" if code else "open" if verdict == "INCONCLUSIVE" else "good"}">{verdict}</span>' in page
    )
    assert main([*command, "--json"]) == code
    content = json.loads(capfd.readouterr().out)
    assert content["verdict"].lower().replace("_", " ") == verdict.lower().partition(",")[0]
    assert main([*command, "--quiet"]) == code
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(("outcomes", "verdict", "fail", "warn"), ACCURACY)
@pytest.mark.parametrize("policy", ["fail", "warn"])
def test_of_accuracy(
    outcomes: tuple[CheckOutcome, ...],
    verdict: str,
    fail: int,
    warn: int,
    policy: OnInconclusive,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run_check, "_checked", lambda _: accuracy_result(outcomes, policy))
    command = ["check", str(tmp_path), "--on-inconclusive", policy]
    agrees(command, verdict, warn if policy == "warn" else fail, tmp_path, capfd, monkeypatch)


@pytest.mark.parametrize(("ratios", "kernel", "signals", "verdict", "fail", "warn"), LATENCY)
@pytest.mark.parametrize("policy", ["fail", "warn"])
def test_of_latency(
    ratios: tuple[float, ...],
    kernel: int,
    signals: object,
    verdict: str,
    fail: int,
    warn: int,
    policy: OnInconclusive,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run_latency, "_compared", lambda *_: gate(ratios, kernel, signals))  # type: ignore[arg-type]
    command = ["latency", "base", "candidate", "--on-inconclusive", policy]
    agrees(command, verdict, warn if policy == "warn" else fail, tmp_path, capfd, monkeypatch)
