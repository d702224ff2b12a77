"""Where outputs are written, and what happens where they cannot be."""

import argparse
import io
import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from sheets import row, sheet

from rexnet_export.apps.gate.outputs.flags import FORMATS, add_outputs
from rexnet_export.apps.gate.outputs.outputs import RENDERED, Outputs, planned
from rexnet_export.apps.gate.outputs.sheet import Sheet
from rexnet_export.apps.shared.terminal import Terminal
from rexnet_export.pipeline.core.errors import BaselineError, UsageError

FLAGS = list(FORMATS)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def messages() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def terminal(messages: io.StringIO, tmp_path: Path) -> Terminal:
    log = tmp_path / "log"
    log.touch()
    return Terminal("rexnet-gate", io.StringIO(), messages, quiet=False, log=log)


def outputs(*given: object) -> Outputs:
    parser = argparse.ArgumentParser()
    add_outputs(parser)
    return planned("rexnet-gate check", parser.parse_args([str(word) for word in given]))


def everything() -> Outputs:
    return outputs(*(word for flag in FLAGS for word in (flag, f"out/{flag[2:]}")))


def test_every_file_is_written(terminal: Terminal, messages: io.StringIO) -> None:
    everything().write(sheet(), terminal)
    for flag in FLAGS:
        assert Path("out", flag[2:]).read_text() == RENDERED[flag](sheet())
    assert sorted(path.name for path in Path("out").iterdir()) == sorted(flag[2:] for flag in FLAGS)
    assert messages.getvalue() == ""


def test_nothing_is_written_that_was_not_asked_for(terminal: Terminal, tmp_path: Path) -> None:
    before = set(tmp_path.iterdir())
    outputs().write(sheet(), terminal)
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize("flag", FLAGS)
@pytest.mark.parametrize("path", [".", "file/below", "/proc/nothing/here", "/dev/null", "x" * 300])
def test_a_path_that_cannot_be_written_is_refused_at_once(flag: str, path: str) -> None:
    Path("file").touch()
    with pytest.raises(UsageError, match=f"^{flag} .* cannot be written .*: make room or name another file"):
        outputs(flag, path)
    assert Path("/dev/null").is_char_device()


def test_one_file_for_two_outputs_is_refused() -> None:
    Path("link").symlink_to("here")
    with pytest.raises(UsageError, match=r"--markdown .*: --junit writes there too"):
        outputs("--junit", "here", "--markdown", "./link")


def test_planning_leaves_an_older_file_alone_and_a_link_is_followed(terminal: Terminal) -> None:
    Path("real.xml").write_text("older")
    Path("link.xml").symlink_to("real.xml")
    plan = outputs("--junit", "link.xml")
    assert Path("real.xml").read_text() == "older"
    plan.write(sheet(), terminal)
    assert Path("link.xml").is_symlink()
    assert ET.parse("real.xml").getroot().tag == "testsuites"  # noqa: S314 - our own


def test_a_disk_that_fills_up_meanwhile_leaves_the_older_file(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("junit.xml").write_text("older")
    plan = outputs("--junit", "junit.xml")

    def full(self: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UsageError, match=r"--junit .*junit.xml cannot be written \(No space left on device\)"):
        plan.write(sheet(), terminal)
    assert Path("junit.xml").read_text() == "older"


@pytest.mark.parametrize(
    ("error", "said"),
    [(BaselineError("no baseline; write one"), "no baseline; write one"), (KeyError("x"), "unexpected KeyError('x')")],
)
def test_a_run_without_a_result_says_so_everywhere(
    terminal: Terminal, messages: io.StringIO, error: Exception, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    Path("out").mkdir()
    for flag in FLAGS:
        Path("out", flag[2:]).write_text("an older result")
    with pytest.raises(type(error)), everything().failures(terminal):
        raise error
    (case,) = ET.parse("out/junit").iter("testcase")  # noqa: S314 - our own
    assert [child.get("message") for child in case if child.tag == "error"] == [said]
    assert "NOT DONE" in Path("out/markdown").read_text()
    assert [json.loads(Path("out", name).read_text()) for name in ("benchmark", "benchmark-bigger", "bencher")] == [
        [],
        [],
        {},
    ]
    assert messages.getvalue() == f"::error title=rexnet-gate check%3A rexnet-gate check run%2C NOT DONE::{said}\n"


def test_an_interrupted_run_leaves_no_older_result(terminal: Terminal) -> None:
    with pytest.raises(KeyboardInterrupt), everything().failures(terminal):
        raise KeyboardInterrupt
    assert "interrupted" in Path("out/junit").read_text()
    assert "NOT DONE" in Path("out/markdown").read_text()


def test_the_runs_own_error_counts_where_outputs_fail_too(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Outputs, sheet: Sheet, terminal: Terminal) -> None:
        raise UsageError("full")

    monkeypatch.setattr(Outputs, "write", refuse)
    with pytest.raises(BaselineError), everything().failures(terminal):
        raise BaselineError("none")


def test_github_actions_gets_annotations_and_a_summary(
    terminal: Terminal, messages: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("summary.md").write_text("of the step before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "summary.md")
    outputs().write(sheet(), terminal)
    assert messages.getvalue() == ""
    assert Path("summary.md").read_text() == "of the step before\n"

    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    outputs().write(sheet(row("failed")), terminal)
    assert messages.getvalue().startswith("::error title=")
    assert Path("summary.md").read_text().startswith("of the step before\n### :x: rexnet-gate check: FAIL\n")


def test_a_summary_that_cannot_be_written_is_said_and_no_more(
    terminal: Terminal, messages: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "nowhere/summary.md")
    outputs().write(sheet(row("passed")), terminal)
    assert "GITHUB_STEP_SUMMARY nowhere/summary.md cannot be written (No such file or directory)" in messages.getvalue()


def test_names_that_are_no_unicode_are_written_nevertheless(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "summary.md")
    everything().write(sheet(row("failed", message="photos/\udcff.png"), title="\udcff"), terminal)
    assert all("\udcff" not in path.read_text() for path in Path("out").iterdir())
