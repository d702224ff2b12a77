"""Class labels: reading them from a file, and fitting a data set's classes to a model's."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rexnet_export.pipeline.core.errors import DataError

WORDNET_ID = re.compile(r"n\d{8}")
NAMED = 5


def read_labels(path: Path) -> tuple[str, ...]:
    """Labels in class order from UTF-8 text, one per line, or from a JSON list of strings."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"labels {path} cannot be read: {error.strerror}; check the path") from error
    except UnicodeDecodeError as error:
        raise DataError(f"labels {path} are not UTF-8 (byte {error.start}); save the file as UTF-8") from error
    labels = _json_list(path, text) if text.lstrip().startswith(("[", "{")) else text.rstrip().splitlines()
    if not labels:
        raise DataError(f"labels {path} are empty; write one label per line in class order")
    for number, label in enumerate(labels, 1):
        if not label.strip():
            raise DataError(f"labels {path}: label {number} is empty; write one label per line, without gaps")
    return tuple(label.strip() for label in labels)


def _json_list(path: Path, text: str) -> list[str]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise DataError(f"labels {path} are not valid JSON ({error}); write a list of strings") from error
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise DataError(f"labels {path} must be a JSON list of strings, in class order")
    return value


def class_indices(class_names: Sequence[str], labels: Sequence[str], source: str) -> list[int]:
    """For every class folder, its index among the model's labels.

    Names are compared exactly, then without case, punctuation and Unicode form (no folder can be called
    `T-shirt/top`). Where no name fits, folders called by number mean that index, and a full set of WordNet ids
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
            "rename the folder or give --labels"
        )
    folders = Counter(matched)
    repeated = [name for name, index in zip(class_names, matched, strict=True) if folders[index] > 1]
    if repeated:
        raise DataError(f"{source}: classes {quoted(repeated)} mean the same label; merge the folders")
    return matched


def _by_name(labels: Sequence[str]) -> dict[str, int]:
    """Exact and plain spellings to index, without those that several labels share."""
    return _unique([_plain(label) for label in labels]) | _unique(labels)


def _unique(names: Sequence[str]) -> dict[str, int]:
    times = Counter(names)
    return {name: index for index, name in enumerate(names) if times[name] == 1}


def _by_position(class_names: Sequence[str], classes: int) -> list[int]:
    if all(name.isdecimal() and int(name) < classes for name in class_names):
        return [int(name) for name in class_names]
    if len(class_names) == classes and all(WORDNET_ID.fullmatch(name) for name in class_names):
        position = {name: index for index, name in enumerate(sorted(class_names))}
        return [position[name] for name in class_names]
    return []


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", " ", unicodedata.normalize("NFKC", name)).strip().casefold()


def quoted(names: Sequence[str]) -> str:
    """The first few names in quotes, and how many more there are."""
    return listed([f"'{name}'" for name in names])


def listed(items: Sequence[str]) -> str:
    """The first few items, and how many more there are."""
    shown = ", ".join(items[:NAMED])
    return f"{shown} and {len(items) - NAMED} more" if len(items) > NAMED else shown
