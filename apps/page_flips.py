"""The part of pages that shows images for which networks choose different classes."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape

SHOWN = 24

type Pictures = Mapping[str, bytes]  # PNG by image id


@dataclass(frozen=True, kw_only=True)
class Card:
    """One image: its id, its label where known, and lines of who chose what."""

    id: str
    label: str | None
    lines: tuple[str, ...]


def said(who: str, name: str, probability: float | None) -> str:
    """Who chose what, with the probability where known."""
    return f"{who}: {name}" + ("" if probability is None else f" {probability:.0%}")


def grid(cards: Iterable[Card], pictures: Pictures) -> str:
    """The cards side by side, each with its picture where there is one."""
    return f'<div class="cards">{"".join(_card(card, pictures.get(card.id)) for card in cards)}</div>'


def _card(card: Card, picture: bytes | None) -> str:
    source = "" if picture is None else f"data:image/png;base64,{base64.b64encode(picture).decode()}"
    image = f'<img src="{source}" alt="{escape(card.id)}" loading="lazy">' if source else ""
    label = "" if card.label is None else f"<b>{escape(card.label)}</b>"
    lines = "".join(f"<span>{escape(line)}</span>" for line in card.lines)
    return f"<figure>{image}<figcaption>{label}{lines}<code>{escape(card.id)}</code></figcaption></figure>"
