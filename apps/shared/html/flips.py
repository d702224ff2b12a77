"""The part of pages that shows images for which networks choose different classes."""

from __future__ import annotations

import base64
from dataclasses import dataclass

SHOWN = 24


@dataclass(frozen=True, kw_only=True)
class Card:
    """One image: its id, its label where known, lines of who chose what, and a PNG of it where there is one."""

    id: str
    label: str | None
    lines: tuple[str, ...]
    picture: bytes | None

    @property
    def source(self) -> str:
        """The picture as an address."""
        assert self.picture is not None
        return f"data:image/png;base64,{base64.b64encode(self.picture).decode()}"


def said(who: str, name: str, probability: float | None) -> str:
    """Who chose what, with the probability where known."""
    return f"{who}: {name}" + ("" if probability is None else f" {probability:.0%}")
