"""The GitHub Action: its shell steps run in bash as the runner would, with inputs that are not meant well too."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import junitparser
import pytest
import yaml
from gate_samples import write_export

ROOT = Path(__file__).parents[1]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
STEPS: list[dict[str, Any]] = ACTION["runs"]["steps"]
SHELL = {step.get("id", "install"): step for step in STEPS if "run" in step}
INPUT = re.compile(r"\$\{\{ inputs\.([a-z-]+) \}\}")

# Stands for the Python that setup-python installs. What uv is asked to run is noted, and answered as the test wants it.
PYTHON = f"""#!/bin/bash
printf '%s\\0' "$@" >>"$CALLS"
case "$1 $2 $3 $4" in
    "-P -c "*) exec {sys.executable} "$@" ;;
    "-P -m uv run") while [ "$1" != rexnet-gate ]; do shift; done; shift; gate=GATE_$1 ;;
    "-P -m "*) exit 0 ;;
    *) exit 99 ;; # without -P, files of the repository that is gated would be imported
esac
if [ -z "${{!gate}}" ]; then exec {sys.executable} -P -m rexnet_export.apps.gate.command "$@"; fi
for word in "$@"; do case $word in --markdown=*) echo "### $1" >"${{word#*=}}" ;; esac; done
read -r code verdict <<<"${{!gate}}"
if [ -n "$verdict" ]; then echo "{{\\"verdict\\": \\"$verdict\\"}}"; fi
exit "$code"
"""
HOSTILE = (
    "$(touch pwned)",
    "`touch pwned`",
    "'; touch pwned; '",
    '"; touch pwned; "',
    "--help",
    "-",
    "* ?",
    "a\nverdict=pass\n::error::b\n",
    "${{ github.token }} $HOME",
)


@dataclass(frozen=True, kw_only=True)
class Step:
    """What came of running one step; `calls` are the words Python was called with."""

    code: int
    log: str
    outputs: Mapping[str, str]
    calls: tuple[str, ...]


def run(name: str, folder: Path, *, answers: Mapping[str, str] | None = None, **inputs: str) -> Step:
    """Run a step; `answers` are exit code and verdict of a gate by its name, which else really runs."""
    given = {key: str(entry.get("default", "")) for key, entry in ACTION["inputs"].items()}
    given |= {key.replace("_", "-"): value for key, value in inputs.items()}
    assert set(given) == set(ACTION["inputs"])
    step = SHELL[name]
    script, calls, output, tools = (folder / name for name in ("step.sh", "calls", "output", "tools"))
    for folder_needed in (tools, folder / "temp"):
        folder_needed.mkdir()
    script.write_text(step["run"])
    (tools / "python").write_text(PYTHON)
    (tools / "python").chmod(0o755)
    env = {key: value for key, value in os.environ.items() if not key.startswith("GITHUB")}
    env |= {key: INPUT.sub(lambda found: given[found.group(1)], value) for key, value in step["env"].items()}
    env |= {f"GATE_{gate}": answer for gate, answer in (answers or {}).items()}
    env |= {
        "PATH": f"{tools}:{env['PATH']}",
        "CALLS": str(calls),
        "RUNNER_TEMP": str(folder / "temp"),
        "GITHUB_ACTION_PATH": str(ROOT),
        "GITHUB_OUTPUT": str(output),
        "GITHUB_ACTIONS": "true",
        "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
    }
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    lines = output.read_text().splitlines() if output.exists() else []
    outputs = dict(line.split("=", 1) for line in lines)
    assert len(outputs) == len(lines)
    words = calls.read_text().split("\0")[:-1]
    return Step(code=done.returncode, log=done.stdout + done.stderr, outputs=outputs, calls=tuple(words))


def test_no_script_has_an_expression_in_it() -> None:
    for step in STEPS:
        assert "${{" not in step.get("run", "")
        assert ("run" in step) == (step.get("shell") == "bash")
    assert [step["uses"].split("@")[0] for step in STEPS if "uses" in step] == ["actions/setup-python"]


def test_what_others_wrote_is_pinned_by_digest() -> None:
    """A tag may be moved; `uv` comes with the digests of its files."""
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    steps = [*STEPS, *(step for job in workflow["jobs"].values() for step in job["steps"])]
    used = [step["uses"] for step in steps if "uses" in step]
    assert len(used) == 3
    assert all(re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", name) for name in used)
    lines = (ROOT / ".ci" / "uv.txt").read_text(encoding="utf-8")
    assert re.match(r"uv==\d+\.\d+\.\d+ \\\n    --hash=sha256:[0-9a-f]{64}", lines)


def test_every_input_arrives_and_every_output_is_set(tmp_path: Path) -> None:
    used = {found for step in STEPS for value in step.get("env", {}).values() for found in INPUT.findall(value)}
    assert used == set(ACTION["inputs"])
    assert all(entry["description"] for entry in (*ACTION["inputs"].values(), *ACTION["outputs"].values()))
    found = run("gate", tmp_path, answers={"check": "0 pass"}, candidate="out")
    assert {f"${{{{ steps.gate.outputs.{name} }}}}" for name in found.outputs} == {
        entry["value"] for entry in ACTION["outputs"].values()
    }
    assert set(found.outputs) == set(ACTION["outputs"])


def test_the_environment_is_the_locked_one(tmp_path: Path) -> None:
    calls = run("install", tmp_path, candidate="out", python_version="3.13").calls
    pinned = ("--require-hashes", "--requirement", str(ROOT / ".ci" / "uv.txt"))
    assert calls[:8] == ("-P", "-m", "pip", "install", "--quiet", *pinned)
    light = ("--no-default-groups", "--extra", "tflite", "--extra", "coreml")  # no torch: no gate needs it
    assert calls[8:14] == ("-P", "-m", "uv", "sync", "--quiet", "--locked")
    assert calls[14:] == (*light, "--python", "3.13", "--project", str(ROOT))


def test_what_the_gates_are_asked(tmp_path: Path) -> None:
    inputs = {"margin": "1", "on_inconclusive": "warn", "latency_base": "old", "latency_candidate": "new"}
    answers = {"check": "0 pass", "latency": "0 PASS"}
    found = run("gate", tmp_path, answers=answers, candidate="out", latency_target="ort x86", **inputs)
    assert (found.code, found.outputs["verdict"], found.outputs["exit-code"]) == (0, "pass", "0")
    reports = found.outputs["reports"]
    asked = [index for index, word in enumerate(found.calls) if word == "rexnet-gate"]
    check, latency = (found.calls[index + 1 : index + 5] for index in asked)
    assert check == ("check", "--json", "--on-inconclusive=warn", f"--junit={reports}/check.xml")
    assert found.calls[asked[0] + 10 : asked[0] + 15] == (
        *("--margin=1", "--fail-alpha=0.05", "--baseline=baselines"),
        *("--", "out"),
    )
    assert latency[0] == "latency"
    assert found.calls[asked[1] + 10 : asked[1] + 15] == ("--margin=10", "--target=ort x86", "--", "old", "new")
    assert {"--no-sync", str(ROOT)} <= set(found.calls[: asked[0]])
    assert found.log.index("### check") < found.log.index("### latency")


@pytest.mark.parametrize(
    ("check", "latency", "verdict", "code"),
    [
        ("0 pass", "0 PASS", "pass", 0),
        ("1 fail", "0 PASS", "fail", 1),
        ("0 pass", "1 FAIL", "fail", 1),
        ("3 inconclusive", "0 PASS", "inconclusive", 3),
        ("0 inconclusive", "0 PASS", "inconclusive", 0),
        ("3 inconclusive", "4 INVALID", "invalid", 4),
        ("3 inconclusive", "1 FAIL", "fail", 1),
        ("6 not_compared", "0 PASS", "not-compared", 6),
        ("6", "3 INCONCLUSIVE", "not-compared", 6),
        ("6", "4 INVALID", "not-compared", 6),
        ("0 pass", "4", "invalid", 4),
        ("1", "0 PASS", "error", 1),
        ("2", "1 FAIL", "fail", 1),
        ("2 pass", "0 PASS", "error", 2),
        ("130", "0 PASS", "error", 130),
    ],
)
def test_the_worst_verdict_counts(tmp_path: Path, check: str, latency: str, verdict: str, code: int) -> None:
    answers = {"check": check, "latency": latency}
    found = run("gate", tmp_path, answers=answers, candidate="out", latency_base="a", latency_candidate="b")
    assert (found.code, found.outputs["verdict"], found.outputs["exit-code"]) == (code, verdict, str(code))


@pytest.mark.parametrize("text", HOSTILE)
def test_inputs_are_never_commands(tmp_path: Path, text: str) -> None:
    names = [name for name in ACTION["inputs"] if name != "python-version"]
    answers = {"check": "0 pass", "latency": "0 PASS"}
    found = run("gate", tmp_path, answers=answers, **dict.fromkeys(names, text))
    assert (found.code, found.outputs["verdict"]) == (0, "pass")
    assert not list(tmp_path.rglob("pwned"))
    asked = [index for index, word in enumerate(found.calls) if word == "rexnet-gate"]
    for index, name, ends in ((asked[0], "check", 1), (asked[1], "latency", 2)):
        words = found.calls[index + 1 : index + 15]
        assert words[0] == name
        own = [
            word for word in words[1:] if not word.startswith(("--json", "--junit=", "--mark", "--html=", "--bench"))
        ]
        flags = ["--margin", "--fail-alpha", "--baseline"] if name == "check" else ["--margin", "--target"]
        assert own == [f"--on-inconclusive={text}", *(f"{flag}={text}" for flag in flags), "--", *[text] * ends]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("candidate", "verdict", "code"), [("one", "pass", 0), ("worse", "fail", 1), ("-", "error", 2)]
)
def test_with_the_real_gate(tmp_path: Path, candidate: str, verdict: str, code: int) -> None:
    write_export(tmp_path / "one")
    write_export(tmp_path / "worse", {"ort": range(140)})
    found = run("gate", tmp_path, candidate=candidate, baseline="one", margin="2")
    assert (found.code, found.outputs["verdict"], found.outputs["exit-code"]) == (code, verdict, str(code)), found.log
    reports = Path(found.outputs["reports"])
    assert len(junitparser.JUnitXml.fromfile(str(reports / "check.xml"))) == 1
    assert {path.name for path in reports.iterdir()} == {
        f"check.{name}" for name in ("json", "xml", "md", "html", "bencher.json", "smaller.json", "bigger.json")
    }
    assert (reports / "check.md").read_text() in found.log
    assert (tmp_path / "summary.md").read_text() == (reports / "check.md").read_text() + "\n"
    assert ("::error title=rexnet-gate check%3A" in found.log) == (code != 0)


@pytest.mark.parametrize("name", SHELL)
def test_shellcheck_finds_nothing(name: str, tmp_path: Path) -> None:
    shellcheck(SHELL[name]["run"], tmp_path)


def shellcheck(text: str, folder: Path) -> None:
    tool = shutil.which("shellcheck", path=str(Path(sys.executable).parent))
    assert tool is not None
    script = folder / "step.sh"
    script.write_text(f"#!/bin/bash\n{text}")
    done = subprocess.run([tool, str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


WORKFLOWS = [
    yaml.safe_load(text)
    for text in re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "ci.md").read_text(encoding="utf-8"), re.DOTALL)
]
DOCUMENTED = [step for flow in WORKFLOWS for job in flow["jobs"].values() for step in job["steps"]]


def test_the_documented_workflows_use_what_the_action_has() -> None:
    assert len(WORKFLOWS) == 2
    used = [step for step in DOCUMENTED if step.get("uses", "").startswith("OWNER/rexnet-export@")]
    assert len(used) == 2
    for step in used:
        required = {name for name, entry in ACTION["inputs"].items() if entry.get("required")}
        assert required <= set(step["with"]) <= set(ACTION["inputs"])
    text = str(DOCUMENTED)
    assert set(re.findall(r"steps\.gate\.outputs\.([a-z-]+)", text)) <= set(ACTION["outputs"])
    assert all(flow["permissions"]["contents"] == "read" for flow in WORKFLOWS)


def test_the_documented_scripts_are_shell_without_expressions(tmp_path: Path) -> None:
    for step in DOCUMENTED:
        if "run" in step:
            assert "${{" not in step["run"]
            shellcheck(step["run"], tmp_path)
