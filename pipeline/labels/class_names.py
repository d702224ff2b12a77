"""Fitting a data set's classes to a model's labels."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

from rexnet_export.pipeline.core.errors import DataError

WORDNET_ID = re.compile(r"n\d{8}\b")
WORDNET_LENGTH = 9
NAMED = 5


def class_indices(class_names: Sequence[str], labels: Sequence[str], source: str) -> list[int]:
    """For every class folder, its index among the model's labels.

     Names are compared exactly, then without case, punctuation and Unicode form (no folder can be called
     `T-shirt/top`), then with the WordNet id that a label begins with, or its first synonym. Where no name fits,
    , folders called by number mean that index, and a full set of WordNet ids
     (ImageNet's `n01440764`, ...) means their sorted order, the order every ImageNet model is trained in.
    """
    known = _by_name(labels)
    found = [known.get(name, known.get(_plain(name))) for name in class_names]
    matched = [index for index in found if index is not None]
    if not matched:
        matched = _by_position(class_names, len(labels))
    if len(matched) < len(class_names):
        strangers = [name for name, index in zip(class_names, found, strict=True) if index is None]
        raise DataError(
            f"{source}: class {quoted(strangers)} not among the model's {len(labels)} labels ({quoted(labels)}); "
            f"{_cure(class_names, len(labels))}"
        )
    folders = Counter(matched)
    repeated = [name for name, index in zip(class_names, matched, strict=True) if folders[index] > 1]
    if repeated:
        raise DataError(f"{source}: classes {quoted(repeated)} mean the same label; merge the folders")
    return matched


def _by_name(labels: Sequence[str]) -> dict[str, int]:
    """Every spelling of a label to its index, exact ones first, without those that several labels share."""
    ids = [label[:WORDNET_LENGTH] if WORDNET_ID.match(label) else label for label in labels]
    first = [_plain(label.partition(",")[0]) for label in labels]
    return _unique(first) | _unique(ids) | _unique([_plain(label) for label in labels]) | _unique(labels)


def _cure(class_names: Sequence[str], classes: int) -> str:
    if all(WORDNET_ID.fullmatch(name) for name in class_names):
        return f"give --labels FILE with the network's {classes:,} synsets in order, one a line"
    if all(name.isdecimal() for name in class_names):
        return f"class numbers count from 0 to {classes - 1}; rename the folders or give --labels"
    return "rename the folder or give --labels"


def _unique(names: Sequence[str]) -> dict[str, int]:
    times = Counter(names)
    return {name: index for index, name in enumerate(names) if times[name] == 1}


def _by_position(class_names: Sequence[str], classes: int) -> list[int]:
    if all(name.isdecimal() and len(name) < 10 and int(name) < classes for name in class_names):
        return [int(name) for name in class_names]
    if len(class_names) == classes and all(WORDNET_ID.fullmatch(name) for name in class_names):
        position = {name: index for index, name in enumerate(sorted(class_names))}
        return [position[name] for name in class_names]
    return []


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", " ", unicodedata.normalize("NFKC", name)).strip().casefold()


def in_natural_order(names: Sequence[str]) -> tuple[str, ...]:
    """Names sorted with the numbers in them as numbers: 1, 2, 10."""
    return tuple(sorted(names, key=_natural))


def _natural(name: str) -> tuple[tuple[int, str], ...]:
    """Text and digits in turns; digits compare by length first, so that any number of them is fine."""
    parts = re.split(r"([0-9]+)", name)
    return tuple(
        (len(part.lstrip("0")), part.lstrip("0")) if place % 2 else (0, part) for place, part in enumerate(parts)
    )


def quoted(names: Sequence[str]) -> str:
    """The first few names in quotes, and how many more there are."""
    return listed([f"'{name}'" for name in names])


def listed(items: Sequence[str], most: int = NAMED) -> str:
    """The first few items, and how many more there are."""
    shown = ", ".join(items[:most])
    return f"{shown} and {len(items) - most:,} more" if len(items) > most else shown
