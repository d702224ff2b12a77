"""Settling the preprocessing: what the flags ask for, what the checkpoint states, and what is left to assume."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from rexnet_export.pipeline.core.errors import UsageError
from rexnet_export.pipeline.core.meant import one_of
from rexnet_export.pipeline.core.records import (
    ASSUMED,
    CROP_MODES,
    INTERPOLATIONS,
    MOST_CHANNELS,
    RGB,
    Preprocess,
    Size,
)

FLAGS: Mapping[str, str] = {
    "size": "--image-size",
    "crop_mode": "--crop-mode",
    "crop_ratio": "--crop-ratio",
    "interpolation": "--interpolation",
    "mean": "--mean",
    "std": "--std",
}
BY_FLAGS = "flags"
SMALLEST_SIZE, LARGEST_SIZE, STEP = 32, 4096, 16
LARGEST_VALUE = 1e3  # of mean and std, whose images are in [0, 1]


@dataclass(frozen=True, kw_only=True)
class Settled:
    """A preprocessing, and by field who stated it: `flags`, a source of the checkpoint's, or `assumed`."""

    preprocess: Preprocess
    source: Mapping[str, str]

    @property
    def assumption(self) -> str | None:
        """One line on what nobody stated, with the cure."""
        values = asdict(self.preprocess)
        assumed = [name for name, source in self.source.items() if source == ASSUMED]
        if not assumed:
            return None
        stated = ", ".join(f"{name.replace('_', ' ')} {shown(values[name])}" for name in assumed)
        flags = ", ".join(FLAGS[name] for name in assumed)
        return (
            f"preprocessing assumed, as the checkpoint does not state it: {stated}; if the network was trained with "
            f"other values, accuracy and ranges are wrong: give {flags}"
        )


def settled(given: Mapping[str, Any], stated: Mapping[str, Any], by: Mapping[str, str], channels: int = RGB) -> Settled:
    """The preprocessing by the first that states each field: flags, then the checkpoint, whose sources are in `by`.

    The fields of `given` are checked; None is not given. One number serves for all `channels` of an image; more must be
    one a channel, and for images that are no photos there are no usual ones: `UsageError` asks for them.
    """
    asked = {name: value for name, value in given.items() if value is not None}
    check_given(asked)
    source = {
        name: BY_FLAGS if name in asked else by.get(name, "checkpoint") if name in stated else ASSUMED for name in FLAGS
    }
    values = {**stated, **asked}
    # Stated ones too: MMPretrain and Caffe count pixels to 255, also in their checkpoints.
    check_given({name: values.get(name) for name in ("mean", "std")})
    for name in ("mean", "std"):
        values[name] = _for_channels(name, values.get(name), channels)
    return Settled(preprocess=replace(Preprocess(), **values), source=source)


def _for_channels(name: str, values: Sequence[float] | None, channels: int) -> tuple[float, ...]:
    if values is None and channels == RGB:
        values = getattr(Preprocess(), name)
    if values is None or len(values) not in (1, channels):
        found = "nothing states" if values is None else f"{shown(values)} is not"
        raise UsageError(
            f"{found} the {name} of the network's {channels} channels: give {FLAGS[name]} with {channels} numbers, or "
            "one for all"
        )
    return tuple(values) * (channels if len(values) == 1 else 1)


def check_given(given: Mapping[str, Any]) -> None:
    """Refuse values of flags that no preprocessing has: a `UsageError` names the flag."""
    for name, value in given.items():
        if value is not None and (wrong := _CHECKS[name](value)):
            raise UsageError(f"{FLAGS[name]} {shown(value)}: {wrong}")


def shown(value: object) -> str:
    """A field's value as on the command line."""
    if isinstance(value, tuple | list):
        return " ".join(map(shown, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def size_of(sides: Sequence[int]) -> Size:
    """One or two numbers as a size; `UsageError` for more."""
    match sides:
        case [side]:
            return side
        case [height, width]:
            return height, width
    raise UsageError(f"--image-size {shown(sides)}: give a square's side, or height and width")


def _size(size: Size) -> str | None:
    for pixels in [size] if isinstance(size, int) else size:
        if not SMALLEST_SIZE <= pixels <= LARGEST_SIZE or pixels % STEP:
            below = min(max(SMALLEST_SIZE, pixels // STEP * STEP), LARGEST_SIZE - STEP)
            return (
                f"every side must be a multiple of {STEP} from {SMALLEST_SIZE} to {LARGEST_SIZE}, as the network "
                f"halves the image five times; try {below} or {below + STEP}"
            )
    return None


def _choice(value: object, choices: tuple[str, ...]) -> str | None:
    return None if value in choices else one_of(str(value), choices)


def _ratio(value: float) -> str | None:
    return None if 0 < value <= 1 else "must be above 0 and at most 1"


def _colours(values: tuple[float, ...], least: float, wanted: str) -> str | None:
    inside = all(math.isfinite(value) and least < value < LARGEST_VALUE for value in values)
    sound = inside and 1 <= len(values) <= MOST_CHANNELS
    return None if sound else f"must be numbers {wanted}, one for all channels or one each, of pixels in [0, 1]"


def _of_pixels(name: str, values: tuple[float, ...], least: float, wanted: str) -> str | None:
    wrong = _colours(values, least, wanted)
    if wrong is None and max(values) > 1:
        return f"no {name} of pixels in [0, 1]; if it is of pixels to 255, give --mean and --std divided by 255"
    return wrong


_CHECKS: Mapping[str, Any] = {
    "size": _size,
    "crop_mode": lambda value: _choice(value, CROP_MODES),
    "crop_ratio": _ratio,
    "interpolation": lambda value: _choice(value, INTERPOLATIONS),
    "mean": lambda values: _of_pixels("mean", values, -LARGEST_VALUE, "of moderate size"),
    "std": lambda values: _of_pixels("std", values, 0.0, "above 0"),
}
