"""The line that a gate ends with on a terminal."""

from __future__ import annotations

from rich.text import Text

from rexnet_export.apps.gate.words import Words
from rexnet_export.apps.shared.terminal import Terminal
from rexnet_export.pipeline.core.text import printable


def print_verdict(words: Words, terminal: Terminal) -> None:
    """The verdict, and what it comes from; of a failure the reason follows as the command's error, and not twice."""
    failed = words.status in {"failed", "error"}
    line = Text(printable(words.verdict if failed else words.line), style=words.style)
    terminal.out.print(line, soft_wrap=True)
