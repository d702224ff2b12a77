"""A gate's rows as Markdown, for a pull request and for the summary of a job on GitHub."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby

from rexnet_export.apps.gate.outputs.sheet import Row, Sheet
from rexnet_export.apps.gate.words import Status

LONGEST = 60_000  # characters: GitHub refuses comments of more than 65,536
SIGNS: dict[Status, str] = {
    "passed": ":white_check_mark:",
    "noted": ":white_check_mark:",
    "failed": ":x:",
    "error": ":no_entry:",
    "undecided": ":grey_question:",
    "skipped": ":heavy_minus_sign:",
}
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
# Whatever Markdown, GitHub's mentions and references, or HTML could take for more than text.
SPECIAL = re.compile(r"[&<>|`*\[\]\\~@#!${}^]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|:(?=//|\w+:)|(?<=www)\.")
LEFT_OUT = "\nThe rest is left out here: comments have a limit. `--json` has everything.\n"


def markdown(sheet: Sheet) -> str:
    """Verdict first, then tables, what did not pass, notes, and longer lists folded; cut to what a comment holds."""
    text = ""
    for block in _blocks(sheet):
        if len(text) + len(block) > LONGEST:
            return text + LEFT_OUT
        text += block
    return text


def _blocks(sheet: Sheet) -> Iterator[str]:
    yield f"### {SIGNS[sheet.words.status]} {sheet.command}: {_plain(sheet.words.verdict)}\n\n"
    yield f"{_plain(sheet.words.line)}\n\n{_plain(sheet.title)}\n"
    for columns, rows in groupby(sheet.rows, lambda row: tuple(row.figures)):
        yield _table(columns, list(rows))
    reasons = [f"- {_plain(reason.line)}\n" for reason in sheet.reasons]
    notes = [f"- {_plain(note)}\n" for note in sheet.notes]
    if lines := [*reasons, *notes]:
        yield "\n"
        yield from lines
    for title, entries in sheet.lists.items():
        listed = "".join(f"- {_plain(entry)}\n" for entry in entries)
        yield f"\n<details><summary>{_plain(title)}</summary>\n\n{listed}\n</details>\n"


def _table(columns: Sequence[str], rows: Sequence[Row]) -> str:
    head = ["", "artifact", "check", "verdict", *map(_plain, columns)]
    lines = [head, [":-"] * 4 + ["-:"] * len(columns)]
    for row in rows:
        words = map(_plain, (row.target, row.check, row.words.verdict, *row.figures.values()))
        lines.append([SIGNS[row.words.status], *words])
    return "\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _plain(text: str) -> str:
    """The text as itself: on one line, with character references for all that could mean something."""
    return SPECIAL.sub(lambda found: f"&#{ord(found.group())};", CONTROL.sub(" ", text))
