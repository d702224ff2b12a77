"""Measurements as a person reads them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

from rexnet_export.pipeline.core.records import Coverage, Measurement, NotMeasured

DASH = "-"


def done(what: str, next_step: str = "") -> str:
    """What a command ends with that did what it was asked; one that did not ends with its error."""
    return "; ".join(filter(None, (f"done: {what}", next_step)))


def counted(count: int, thing: str) -> str:
    """A number of things, as one says it."""
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {thing}s"


def rate(per_second: float, units: str) -> str:
    """So many `units` a second; of less than one the seconds that each takes."""
    return f"{per_second:,.0f} {units}/s" if per_second >= 1 else f"{1 / per_second:,.1f} s/{units.removesuffix('s')}"


def int8_share(coverage: Coverage) -> str:
    """The INT8 share, rounded down: 100% means all of it."""
    return f"{math.floor(coverage.int8_mac_fraction * 100)}%"


def shown[T](value: Measurement[T], text: Callable[[T], str]) -> str:
    """The value as text, or a dash for what was not measured."""
    return DASH if isinstance(value, NotMeasured) else text(value)


def unmeasured_lines(values: Iterable[tuple[str, object]]) -> Iterator[str]:
    """`name, name: reason` for every reason among named values, each reason once; measured values say nothing."""
    return grouped((name, value.reason) for name, value in values if isinstance(value, NotMeasured))


def grouped(said: Iterable[tuple[str, str]]) -> Iterator[str]:
    """`name, name: text` for every text that is said of names, each text and each of its names once."""
    found: dict[str, dict[str, None]] = {}
    for name, text in said:
        found.setdefault(text, {})[name] = None
    return (f"{', '.join(names)}: {text}" for text, names in found.items())
