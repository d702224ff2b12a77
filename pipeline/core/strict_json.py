"""Reading JSON strictly: every value is what it must be, or a `ConversionError` says where it is not."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection

from rexnet_export.pipeline.core.errors import ConversionError

_SHA256 = re.compile(r"[0-9a-f]{64}")


def strict_loads(text: str) -> object:
    """Parse JSON without its liberties: no key twice, no NaN, no infinity."""
    found: object = json.loads(text, object_pairs_hook=_without_duplicates, parse_constant=_no_constant)
    return found


def an_object(
    value: object, where: str, required: Collection[str] | None = None, optional: Collection[str] = ()
) -> dict[str, object]:
    """An object; if `required` keys are given, with all of them and at most the `optional` ones beside."""
    if not isinstance(value, dict):
        raise ConversionError(f"{where} is not an object")
    if required is not None:
        if missing := sorted(set(required) - value.keys()):
            raise ConversionError(f"{where} lacks {', '.join(missing)}")
        if unknown := sorted(value.keys() - {*required, *optional}):
            raise ConversionError(f"{where} has unknown {', '.join(unknown)}")
    return value


def a_list(value: object, where: str) -> list[object]:
    """A list, perhaps empty."""
    if not isinstance(value, list):
        raise ConversionError(f"{where} is not a list")
    return value


def an_array(value: object, where: str) -> list[object]:
    """A list of at least one item, each still to be read as a number."""
    if not isinstance(value, list) or not value:
        raise ConversionError(f"{where} is not a list of numbers")
    return value


def a_number(value: object, where: str) -> float:
    """A finite number."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise ConversionError(f"{where} holds {value!r}, not a finite number")
    return float(value)


def numbers(value: object, where: str) -> tuple[float, ...]:
    """Finite numbers, at least one."""
    return tuple(a_number(item, where) for item in an_array(value, where))


def an_integer(value: object, where: str, low: int, high: int = 2**63 - 1) -> int:
    """An integer from `low` to `high`."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ConversionError(f"{where} holds {value!r}, not an integer from {low} to {high}")
    return value


def a_text(value: object, where: str) -> str:
    """A text that is not empty."""
    if not isinstance(value, str) or not value:
        raise ConversionError(f"{where} is not a text")
    return value


def a_sha256(value: object, where: str) -> str:
    """64 lower-case hexadecimal digits."""
    if not isinstance(value, str) or not _SHA256.fullmatch(value):
        raise ConversionError(f"{where} is not a SHA-256 in hexadecimal")
    return value


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise ConversionError(f"{next(name for name in names if names.count(name) > 1)} is there twice")
    return found


def _no_constant(name: str) -> float:
    raise ConversionError(f"{name} is not a number a table can hold")
