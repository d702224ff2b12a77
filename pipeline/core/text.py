"""Words from files, devices and folders, made fit for terminals, logs and pages: the one place that decides how."""

from __future__ import annotations

import json
import re

UNFIT = "\N{REPLACEMENT CHARACTER}"
# What GitHub's runner takes for a command: `##[...]` anywhere in a line, `::` where one begins.
COMMAND = re.compile(r"(?<=##)\[|^([^\S\n]*:):", re.MULTILINE)


def printable(text: str) -> str:
    """The text on one line, with a replacement sign for whatever would break it or command a terminal or a runner."""
    return harmless(text.replace("\n", UNFIT))


def harmless(text: str) -> str:
    """The same of several lines."""
    if not text.isprintable():
        text = "".join(sign if sign.isprintable() or sign == "\n" else UNFIT for sign in text)
    return COMMAND.sub(lambda match: f"{match.group(1) or ''}{UNFIT}", text)


def harmless_json(text: str) -> str:
    """JSON that means the same and is harmless where it is printed: such signs are escaped as JSON does."""
    if not text.isascii() or "\x7f" in text:
        text = "".join(sign if sign.isprintable() or sign == "\n" else json.dumps(sign)[1:-1] for sign in text)
    return text.replace("##[", r"#\u0023[").replace("\x7f", r"\u007f")


def excerpt(text: str, limit: int = 120) -> str:
    """The text cut short, and escaped as Python does where it is not printable."""
    return (text if text.isprintable() else ascii(text))[:limit]
