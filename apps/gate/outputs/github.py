"""A gate's reasons as annotations of GitHub Actions: lines that its runner picks from a command's output."""

from __future__ import annotations

from rexnet_export.apps.gate.outputs.sheet import Sheet
from rexnet_export.apps.gate.words import Status

# Worst first: GitHub shows ten of a kind for a step.
KINDS: dict[Status, str] = {"failed": "error", "error": "error", "undecided": "warning", "noted": "notice"}


def annotation_lines(sheet: Sheet) -> str:
    """One line for each reason why rows are no plain passes."""
    found = [reason for status in KINDS for reason in sheet.reasons if reason.words.status == status]
    return "".join(
        f"::{KINDS[reason.words.status]} "
        f"title={_property(f'{sheet.command}: {reason.names}, {reason.words.verdict}')}"
        f"::{_data(reason.words.sentence)}\n"
        for reason in found
    )


def _data(text: str) -> str:
    """Escaped as the runner unescapes a message."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    """Escaped as the runner unescapes a property, which also ends at a comma or a colon."""
    return _data(text).replace(":", "%3A").replace(",", "%2C")
