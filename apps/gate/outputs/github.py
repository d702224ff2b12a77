"""A gate's rows as annotations of GitHub Actions: lines that its runner picks from a command's output."""

from __future__ import annotations

from rexnet_export.apps.gate.outputs.sheet import Sheet
from rexnet_export.apps.gate.words import Status

# Worst first: GitHub shows ten of a kind for a step.
KINDS: dict[Status, str] = {"failed": "error", "error": "error", "undecided": "warning", "noted": "notice"}


def annotation_lines(sheet: Sheet) -> str:
    """One line for each row that is no plain pass."""
    found = [(row, row.words) for status in KINDS for row in sheet.rows if row.words.status == status]
    return "".join(
        f"::{KINDS[words.status]} title={_property(f'{sheet.command}: {row.target} {row.check}, {words.verdict}')}"
        f"::{_data(words.sentence)}\n"
        for row, words in found
    )


def _data(text: str) -> str:
    """Escaped as the runner unescapes a message."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    """Escaped as the runner unescapes a property, which also ends at a comma or a colon."""
    return _data(text).replace(":", "%3A").replace(",", "%2C")
