"""Words from files, devices and folders, made fit for terminals, logs and pages: the one place that decides how."""

from __future__ import annotations

import re
from unicodedata import category

UNFIT = "\N{REPLACEMENT CHARACTER}"
# What GitHub's runner takes for a command: `##[...]` anywhere in a line, `::` where one begins.
COMMAND = re.compile(r"(?<=##)\[|^([^\S\n]*:):", re.MULTILINE)


def printable(text: str) -> str:
    """The text on one line, with a replacement sign for whatever would break it or command a terminal or a runner."""
    return harmless(text.replace("\n", UNFIT))


def harmless(text: str) -> str:
    """The same of several lines."""
    text = text.translate(dict.fromkeys(map(ord, _unfit(text)), UNFIT))
    return COMMAND.sub(lambda match: f"{match.group(1) or ''}{UNFIT}", text)


def harmless_json(text: str) -> str:
    """JSON that means the same and is harmless where it is printed: such signs are escaped as JSON does."""
    escapes = {ord(sign): "".join(f"\\u{ord(unit):04x}" for unit in _units(sign)) for sign in _unfit(text)}
    return text.translate(escapes).replace("##[", r"#\u0023[")


def _unfit(text: str) -> list[str]:
    # Spaces of other widths, or that no line breaks at, are none to Python's `isprintable`; they command nothing.
    return [sign for sign in set(text) if not sign.isprintable() and sign != "\n" and category(sign) != "Zs"]


def _units(sign: str) -> str:
    """The sign as JSON's escapes count it: in UTF-16."""
    code = ord(sign) - 0x10000
    return sign if code < 0 else chr(0xD800 + (code >> 10)) + chr(0xDC00 + (code & 0x3FF))


def excerpt(text: str, limit: int = 120) -> str:
    """The text cut short, and escaped as Python does where it is not printable."""
    return (text if text.isprintable() else ascii(text))[:limit]


def is_unicode(text: str) -> bool:
    """Whether it can be written in UTF-8; a name of a file in another encoding cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
