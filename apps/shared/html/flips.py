"""The part of pages that shows images for which networks choose different classes."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

SHOWN = 24


@dataclass(frozen=True, kw_only=True)
class Card:
    """One image: its id, its label where known, lines of who chose what, and a PNG of it where there is one."""

    id: str
    label: str | None
    lines: tuple[str, ...]
    picture: bytes | None


def said(who: str, name: str, probability: float | None) -> str:
    """Who chose what, with the probability where known."""
    return f"{who}: {name}" + ("" if probability is None else f" {probability:.0%}")


def grid(cards: Iterable[Card]) -> str:
    """The cards side by side."""
    return f'<div class="cards">{"".join(map(_card, cards))}</div>'


def _card(card: Card) -> str:
    image = ""
    if card.picture is not None:
        source = f"data:image/png;base64,{base64.b64encode(card.picture).decode()}"
        image = f'<img src="{source}" alt="{escape(card.id)}" loading="lazy">'
    label = "" if card.label is None else f"<b>{escape(card.label)}</b>"
    lines = "".join(f"<span>{escape(line)}</span>" for line in card.lines)
    return f"<figure>{image}<figcaption>{label}{lines}<code>{escape(card.id)}</code></figcaption></figure>"
