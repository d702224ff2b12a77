"""JSON that a bundle holds, read without believing it: nesting, digits and size are bounded."""

from __future__ import annotations

import json
import math
from typing import Any

MOST_BYTES, MOST_DEPTH, MOST_DIGITS = 64 * 2**20, 64, 64


def strict_loads(text: bytes) -> Any:  # noqa: ANN401 - JSON
    """A JSON value without key twice, NaN, or nesting and numbers without end; all else is a `ValueError`."""
    if len(text) > MOST_BYTES:
        raise ValueError(f"it has {len(text)} bytes, more than {MOST_BYTES}")
    try:
        value = json.loads(
            text.decode("utf-8"),
            object_pairs_hook=_without_duplicates,
            parse_constant=_no_constant,
            parse_int=_integer,
            parse_float=_float,
        )
    except RecursionError as error:
        raise ValueError(f"it is nested deeper than {MOST_DEPTH}") from error
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(MOST_DEPTH):
        inner = (item for part in level for item in (part.values() if isinstance(part, dict) else part))
        level = [item for item in inner if isinstance(item, (dict, list))]
    if level:
        raise ValueError(f"it is nested deeper than {MOST_DEPTH}")
    return value


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is there twice")
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number that JSON knows")


def _integer(digits: str) -> int:
    """Older Pythons take minutes for millions of digits."""
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"it holds a number of {len(digits)} digits")
    return int(digits)


def _float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits[:20]} is too large a number")
    return value
