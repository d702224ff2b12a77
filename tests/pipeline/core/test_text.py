"""Text from outside, in front of terminals and of GitHub's runner."""

import json

import pytest

from rexnet_export.pipeline.core.text import harmless, harmless_json, printable

CANARY = "\x1b[31mowl\x07\x9b8m\u202e##[error]no\n::add-mask::x\r\n  ::stop"


def test_nothing_in_a_line_commands_a_terminal_or_a_runner() -> None:
    line = printable(CANARY)
    assert line.isprintable()
    assert "##[" not in line
    assert "owl" in line


@pytest.mark.parametrize(
    "text",
    [
        "std::vector",
        "a/runs:x:/net:smile:.pth",
        "[bold]x[/bold]",
        "#[1]",
        "Tür ✓ 猫",
        "a: b",
        "95\u00a0%",
        "1\u2009000",
        "全\u3000角",
    ],
)
def test_what_commands_nobody_stays_as_it_is(text: str) -> None:
    assert printable(text) == harmless(text) == text


def test_lines_stay_lines_and_none_begins_a_command() -> None:
    lines = harmless(CANARY).split("\n")
    assert len(lines) == 3
    assert not any(line.lstrip().startswith("::") for line in lines)


def test_json_means_the_same_and_is_harmless() -> None:
    text = harmless_json(json.dumps({"a": CANARY + "\x7f\U000e0001é"}, ensure_ascii=False))
    assert json.loads(text) == {"a": CANARY + "\x7f\U000e0001é"}
    assert text.isprintable()
    assert "##[" not in text
