"""Words from files, devices and folders, made fit for a terminal and for one line."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text with a replacement sign for whatever would break the line or command a terminal."""
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)


def excerpt(text: str, limit: int = 120) -> str:
    """The text cut short, and escaped as Python does where it is not printable."""
    return (text if text.isprintable() else ascii(text))[:limit]
