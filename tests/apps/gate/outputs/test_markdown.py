"""Markdown, read back with a Markdown parser."""

import html
import re
import unicodedata

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token
from sheets import HOSTILE, STATUSES, row, sheet

from rexnet_export.apps.gate.outputs.markdown import markdown

LONGEST = 60_000

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def parsed(text: str) -> list[Token]:
    return [leaf for token in PARSER.parse(text) for leaf in (token, *(token.children or ()))]


def cells(text: str) -> list[str]:
    tokens = PARSER.parse(text)
    places = [index for index, token in enumerate(tokens) if token.type in {"td_open", "th_open"}]
    return ["".join(leaf.content for leaf in tokens[index + 1].children or ()) for index in places]


def test_verdict_rows_reasons_and_notes() -> None:
    text = markdown(sheet(notes=("another processor",), lists={"2 images flipped": ("one", "two")}))
    assert text.startswith(
        "### :x: rexnet-gate check: FAIL\n\nFAIL: ort x86 is worse\n\nrexnet_100 int8, 10,000 images\n"
    )
    assert cells(text)[:6] == ["", "artifact", "check", "verdict", "top-1", "drop"]
    assert cells(text)[6:12] == [":white_check_mark:", "ort x86", "passed", "PASSED", "93.45%", "+0.01"]
    assert "- ort x86 passed" not in text
    assert all(f"- ort x86 {status}: all is well\n" in text for status in STATUSES if status != "passed")
    assert "- another processor\n" in text
    assert "<details><summary>2 images flipped</summary>\n\n- one\n- two\n\n</details>" in text


def test_rows_of_other_figures_are_another_table() -> None:
    other = row("passed", check="bytes")
    text = markdown(sheet(row("passed"), type(other)(**(vars(other) | {"figures": {"base": "1"}}))))
    assert [token.type for token in PARSER.parse(text)].count("table_open") == 2
    assert len(cells(text)) == 6 + 6 + 5 + 5


@pytest.mark.parametrize("text", HOSTILE)
def test_text_stays_text(text: str) -> None:
    """Every leaf is text, and reads as it was given: control characters aside, which become spaces."""
    result = markdown(sheet(row("failed", target=text, check=text, message=text), title=text, lists={text: (text,)}))
    shown = " ".join("".join(" " if unicodedata.category(c) in {"Cc", "Zl"} else c for c in text).split())
    leaves = parsed(result)
    kinds = {token.type for token in leaves if token.type.endswith("_inline") or token.nesting == 0}
    assert kinds <= {"inline", "text", "html_block", "softbreak", "text_special"}
    assert not {token.type for token in leaves} & {"link_open", "em_open", "strong_open", "s_open", "image"}
    blocks = [token.content for token in leaves if token.type == "html_block"]
    assert len(blocks) == 2
    assert blocks[1] == "</details>\n"
    assert re.findall(r"<[^>]*>", blocks[0]) == ["<details>", "<summary>", "</summary>"]
    assert " ".join(cells(result)[7].split()) == shown
    assert not re.search(r"@|(?<!&)#|\$|://|www\.", result.removeprefix("###"))
    assert shown in " ".join(html.unescape(result).split())


def test_what_a_comment_cannot_hold_is_left_out_and_said() -> None:
    many = tuple(f"photos/{index:05}.png (a label) 90% -> b 80%" for index in range(500))
    text = markdown(sheet(lists={f"list {index}": many for index in range(9)}))
    assert LONGEST - 40_000 < len(text) < 65_536
    assert text.count("<details>") == text.count("</details>") == 2
    assert text.endswith("`--json` has everything.\n")
    assert "left out" not in markdown(sheet())
