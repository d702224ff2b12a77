"""A label, an image and an artifact that would command whoever prints them, driven through every output."""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from sheets import CANARY_TEXT, canary_sheet

from rexnet_export.apps.gate.outputs.flags import FORMATS, add_outputs
from rexnet_export.apps.gate.outputs.outputs import planned
from rexnet_export.apps.shared.terminal import Terminal


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """All that one run writes, by flag."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary"))
    parser = argparse.ArgumentParser()
    add_outputs(parser)
    files = {flag: tmp_path / flag[2:] for flag in FORMATS}
    arguments = parser.parse_args([word for flag, path in files.items() for word in (flag, str(path))])
    (log := tmp_path / "log").touch()
    terminal = Terminal("test", io.StringIO(), messages := io.StringIO(), quiet=False, log=log)
    planned("rexnet-gate check", arguments).write(canary_sheet(), terminal)
    texts = {flag: path.read_text(encoding="utf-8") for flag, path in files.items()}
    return texts | {"summary": (tmp_path / "summary").read_text(encoding="utf-8"), "annotations": messages.getvalue()}


def test_no_output_commands_its_reader(written: dict[str, str]) -> None:
    for name, text in written.items():
        assert "owl" in text, name
        assert all(sign.isprintable() or sign == "\n" for sign in text), name
        assert "##[" not in text, name
        if not name.startswith("--bench") and name != "annotations":  # these are no pages
            assert "<script>" not in text, name
        lines = text.split("\n")
        commands = [line for line in lines if line.lstrip().startswith("::")]
        assert commands == (lines[:-1] if name == "annotations" else [])


def test_annotations_are_one_for_each_row(written: dict[str, str]) -> None:
    assert {line.partition(" ")[0] for line in written["annotations"].splitlines()} == {"::error"}


def test_what_machines_read_is_well_formed(written: dict[str, str]) -> None:
    ElementTree.fromstring(written["--junit"])  # noqa: S314 - our own
    for flag in ("--benchmark", "--benchmark-bigger", "--bencher"):
        json.loads(written[flag])
    assert CANARY_TEXT not in written["--html"]
