"""Annotations, read back as the runner of GitHub Actions does."""

import re

import pytest
from sheets import HOSTILE, row, sheet

from rexnet_export.apps.gate.outputs.github import annotation_lines


def read(line: str) -> tuple[str, str, str]:
    """Kind, title and message by the runner's rules: split at the first `::`, unescape, `%25` last."""
    found = re.fullmatch(r"::(\w+) title=([^:,]*)::(.*)", line)
    assert found is not None, line
    kind, title, message = found.groups()
    for code, character in (("%0D", "\r"), ("%0A", "\n")):
        title, message = title.replace(code, character), message.replace(code, character)
    for code, character in (("%3A", ":"), ("%2C", ",")):
        title = title.replace(code, character)
    return kind, title.replace("%25", "%"), message.replace("%25", "%")


def test_kinds_and_worst_first() -> None:
    found = [
        read(line)
        for line in annotation_lines(sheet(row("noted"), row("undecided"), row("error"), row("failed"))).splitlines()
    ]
    assert found == [
        ("error", "rexnet-gate check: ort x86 failed, FAILED", "all is well"),
        ("error", "rexnet-gate check: ort x86 error, ERROR", "all is well"),
        ("warning", "rexnet-gate check: ort x86 undecided, UNDECIDED", "all is well"),
        ("notice", "rexnet-gate check: ort x86 noted, NOTED", "all is well"),
    ]
    assert annotation_lines(sheet(row("passed"), row("skipped"))) == ""


@pytest.mark.parametrize("text", HOSTILE)
def test_any_text_is_one_command(text: str) -> None:
    result = annotation_lines(sheet(row("failed", target=text, check="chain", message=text)))
    assert result.count("\n") == 1
    assert read(result.removesuffix("\n")) == ("error", f"rexnet-gate check: {text} chain, FAILED", text)
