"""Tables in terminals of any width: every name is whole, every figure is whole or said to be left out."""

from __future__ import annotations

import io

import pytest
from rich.console import Group, RenderableType
from rich.text import Text

from rexnet_export.apps.shared.terminal import PlainConsole
from rexnet_export.apps.shared.terminal_table import Column, FittedTable, Paragraph

LONG = "a_network_of_birds-and_of_beasts-int8-x86.ort"
COLUMNS = (
    Column(title="target", left=True),
    Column(title="file", name=True),
    Column(title="MB", spare=2),
    Column(title="top-1"),
    Column(title="p50 ms", spare=1),
    Column(title="run by", sentence=True),
)
ROWS = (
    ("ort", "short.ort", "4.2", "93.45%", "12.50", "ONNX Runtime 1.26.0"),
    ("ort x86", LONG, "4.25", "100.00%", "-", "-"),
)


def printed(shown: RenderableType, width: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(width))
    stream = io.StringIO()
    PlainConsole(stream).print(shown)
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def test_one_line_a_row_where_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = printed(FittedTable("files", COLUMNS, ROWS), 98, monkeypatch)
    assert lines == [
        "files",
        f"target  {'file':<{len(LONG)}}   MB   top-1 p50 ms run by",
        "─" * 93,
        f"ort     {'short.ort':<{len(LONG)}}  4.2  93.45%  12.50 ONNX Runtime 1.26.0",
        f"ort x86 {LONG} 4.25 100.00%      - -",
    ]
    assert printed(FittedTable("files", COLUMNS, ROWS), 93, monkeypatch) == lines


def test_names_and_sentences_get_lines_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert printed(FittedTable("files", COLUMNS, ROWS), 92, monkeypatch) == [
        "files",
        "target    MB   top-1 p50 ms",
        "─" * 27,
        "short.ort",
        "ort      4.2  93.45%  12.50",
        "  run by: ONNX Runtime 1.26.0",
        LONG,
        "ort x86 4.25 100.00%      -",
    ]


@pytest.mark.parametrize(
    ("width", "head", "left_out"),
    [
        (27, "target    MB   top-1 p50 ms", []),
        (26, "target    MB   top-1", ["p50 ms"]),
        (20, "target    MB   top-1", ["p50 ms"]),
        (19, "target    top-1", ["p50 ms", "MB"]),
        (3, "target    top-1", ["p50 ms", "MB"]),
    ],
)
def test_columns_go_by_their_number_and_it_is_said(
    width: int, head: str, left_out: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = printed(FittedTable("", COLUMNS, ROWS), width, monkeypatch)
    assert lines[0] == head
    assert LONG in lines
    assert "100.00%" in lines[lines.index(LONG) + 1]
    said = f"no room for {', '.join(left_out)}: 93 columns show all"
    assert (said in " ".join(lines)) == bool(left_out)
    assert ("no room" in " ".join(lines)) == bool(left_out)


def test_rows_of_one_name_stand_under_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = (Column(title="trial", name=True), Column(title="file of", left=True))
    rows = [(LONG, "ort"), (LONG, "ort x86"), ("other", "ort")]
    assert printed(FittedTable("", columns, rows), 40, monkeypatch)[2:] == [LONG, "ort", "ort x86", "other", "ort"]


@pytest.mark.parametrize("width", [10, 200])
def test_nothing_in_a_name_makes_a_line_or_commands_a_terminal(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [(f"two\nlines{each}\x1b[31m[bold]", "1") for each in "ab"]
    columns = (Column(title="file", name=True), Column(title="MB"))
    lines = printed(FittedTable("of\nwhat", columns, rows), width, monkeypatch)
    assert [line for line in lines if "two\N{REPLACEMENT CHARACTER}linesa\N{REPLACEMENT CHARACTER}[31m[bold]" in line]
    assert len(lines) == (7 if width == 10 else 5)


def test_a_styled_cell_keeps_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = FittedTable("", (Column(title="verdict", left=True),), [(Text("FAIL", style="bold red"),)])
    assert printed(shown, 80, monkeypatch)[-1] == "FAIL"


def test_lines_end_between_words(monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"{LONG}: it was not timed, as-it-is"
    assert printed(Paragraph(text), 21, monkeypatch) == [f"{LONG}:", "it was not timed,", "as-it-is"]
    assert printed(Group(Paragraph(""), Paragraph("a")), 21, monkeypatch) == ["", "a"]
