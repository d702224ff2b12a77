"""Reading JSON strictly: every value is what it must be, or a `ConversionError` says where it is not.

Text from elsewhere is bounded before it is believed: nesting, digits, and for files their size.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.untrusted import read_untrusted

MOST_BYTES = 256 * 2**20  # of a file that no caller knows better
MOST_DEPTH, MOST_DIGITS = 64, 64

_SHA256 = re.compile(r"[0-9a-f]{64}")


def read_json(path: Path, most_bytes: int = MOST_BYTES) -> object:
    """Parse a JSON file from elsewhere; `OSError` where it is no readable regular file, else as `strict_loads`."""
    try:
        return strict_loads(read_untrusted(path, most_bytes).decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ConversionError(f"it is not UTF-8 (byte {error.start})") from error


def strict_loads(text: str | bytes, most_bytes: int = MOST_BYTES) -> object:
    """Parse JSON without its liberties: no key twice, no NaN or infinity, no nesting, number or text without end.

    Everything that is wrong with it is a `ConversionError`.
    """
    if len(text) > most_bytes:
        raise ConversionError(f"it has {len(text):,} bytes, more than {most_bytes:,}")
    try:
        found: object = json.loads(
            text,
            object_pairs_hook=_without_duplicates,
            parse_constant=_no_constant,
            parse_int=_integer,
            parse_float=_float,
        )
    except RecursionError as error:
        raise _too_deep() from error
    except ValueError as error:
        raise ConversionError(f"it is no JSON ({error})") from error
    _require_shallow(found)
    return found


def an_object(value: object, where: str) -> dict[str, object]:
    """An object, whatever its keys."""
    if not isinstance(value, dict):
        raise ConversionError(f"{where} is not an object")
    return value


def a_list(value: object, where: str) -> list[object]:
    """A list, perhaps empty."""
    if not isinstance(value, list):
        raise ConversionError(f"{where} is not a list")
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
    raise ConversionError(f"{name} is no number that JSON knows")


def _integer(digits: str) -> int:
    """Beyond some thousands of digits `int` raises, and beyond some millions it takes minutes."""
    if len(digits) > MOST_DIGITS:
        raise ConversionError(f"it holds a number of {len(digits):,} digits")
    return int(digits)


def _float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ConversionError(f"{digits[:20]} is too large a number")
    return value


def _require_shallow(value: object) -> None:
    """Whatever walks the value later may do it by recursion."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(MOST_DEPTH):
        inner = (item for part in level for item in (part.values() if isinstance(part, dict) else part))
        level = [item for item in inner if isinstance(item, dict | list)]
    if level:
        raise _too_deep()


def _too_deep() -> ConversionError:
    return ConversionError(f"it is nested deeper than {MOST_DEPTH}")
