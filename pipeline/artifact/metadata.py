"""What every artifact says about itself, as the flat string map that all three formats can hold."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from importlib.metadata import version
from typing import TypeGuard

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.outputs import HEAD
from rexnet_export.pipeline.core.records import (
    CROP_MODES,
    INTERPOLATIONS,
    Feature,
    HeadOutput,
    ModelCard,
    Precision,
    Preprocess,
    Size,
)
from rexnet_export.pipeline.core.records import MOST_CHANNELS as MOST_IMAGE_CHANNELS
from rexnet_export.pipeline.core.strict_json import strict_loads

DIGESTS = ("float_onnx_sha256", "table_sha256")
FEATURES = "features"
MOST_CHANNELS = 2**16
HEADS, NUMBERS = "heads", "numbers"
FLOAT_TENSORS = "float_tensors"
PADDED = "padded"  # which tensors of a file have channels of zeros, behind how many of their own
PROCESSOR = "processor"  # what a file's processor has to have, where not every one computes it exactly
# All that a file may say of the network in it: each changes what the file means or what it is taken for.
KEYS = (
    *("model", "precision", "labels", "input_size", "resize", "crop_ratio", "interpolation", "mean", "std"),
    *("description", "version", "author", "license"),
    *("checkpoint_sha256", "generator", FEATURES, HEADS, NUMBERS, FLOAT_TENSORS, PROCESSOR, PADDED, *DIGESTS),
)
MAX_SIZE_DIGITS = 5
MOST_TEXT = 64 * 2**20  # bytes of one entry
LONGEST_SOURCE = 200
VERSION_DIGITS = 12
AUTHOR = "rexnet-export"
LICENSE = "Code MIT; the weights keep the licence of their checkpoint."


def describe(
    card: ModelCard, *, precision: Precision, float_tensors: Sequence[str] = (), **digests: str
) -> dict[str, str]:
    """The map of one artifact: the card, its precision, and the digests (`DIGESTS`) of what it was made from.

    An INT8 artifact that leaves tensors in float names them.
    """
    if unknown := sorted(set(digests) - set(DIGESTS)):
        raise TypeError(f"describe() knows no digest {unknown[0]!r}; it knows {', '.join(DIGESTS)}")
    preprocess = card.preprocess
    features = [asdict(feature) for feature in card.features]
    return {
        "model": card.name,
        "precision": precision,
        "labels": json.dumps(card.labels),
        "input_size": _size_text(preprocess.shape),
        "resize": _size_text(preprocess.resize),
        "crop_mode": preprocess.crop_mode,
        "crop_ratio": json.dumps(preprocess.crop_ratio),
        "interpolation": preprocess.interpolation,
        "mean": json.dumps(preprocess.mean),
        "std": json.dumps(preprocess.std),
        "preprocess_source": json.dumps(dict(card.preprocess_source)),
        **described_to_people(card, precision),
        "checkpoint_sha256": card.checkpoint_sha256,
        "generator": f"rexnet-export {version('rexnet-export')}",
        **({FEATURES: json.dumps(features)} if features else {}),
        **({HEADS: json.dumps([asdict(head) for head in card.heads])} if card.heads else {}),
        **({NUMBERS: str(card.numbers)} if card.numbers else {}),
        **({FLOAT_TENSORS: json.dumps(list(float_tensors))} if float_tensors else {}),
        **digests,
    }


def described_to_people(card: ModelCard, precision: Precision) -> dict[str, str]:
    """What every format has a place of its own for; `version` are the first digits of the checkpoint's digest."""
    kind = f"image classifier with {len(card.labels)} classes"
    if card.features:
        kind = f"backbone with {len(card.features)} outputs"
    elif card.numbers:
        kind = f"regression with {card.numbers} numbers"
    return {
        "description": f"{card.name}, {precision}: {kind}.",
        "version": card.checkpoint_sha256[:VERSION_DIGITS],
        "author": AUTHOR,
        "license": LICENSE,
    }


def danger(processor: str) -> str:
    """What a file does, without an error, where the processor lacks what its metadata says that it has to have."""
    return f"without {processor} its sums overflow in silence, unless the program sets session.x64quantprecision to 1"


def float_tensors_from(metadata: Mapping[str, str]) -> frozenset[str]:
    """The ONNX tensors that an INT8 artifact says it leaves in float: none where it says nothing."""
    wanted = "a JSON list of tensor names"
    if FLOAT_TENSORS not in metadata:
        return frozenset()
    names = _json(metadata, FLOAT_TENSORS, wanted)
    if isinstance(names, list) and all(isinstance(name, str) and name.isprintable() for name in names):
        return frozenset(names)
    raise _damaged(metadata, FLOAT_TENSORS, wanted)


def card_from(metadata: Mapping[str, str]) -> ModelCard:
    """The card an artifact carries: the inverse of `describe`, for files that may come from anywhere."""
    mean, std = _channel_numbers(metadata, "mean"), _channel_numbers(metadata, "std")
    if min(std) <= 0:
        raise _damaged(metadata, "std", "numbers above 0")
    if len(mean) != len(std):
        raise _damaged(metadata, "mean", f"{len(std)} numbers, as std has")
    return ModelCard(
        name=_text(metadata, "model"),
        labels=_labels(metadata),
        preprocess=Preprocess(
            size=_size(metadata),
            crop_mode=_one_of(metadata, "crop_mode", CROP_MODES),
            crop_ratio=_crop_ratio(metadata),
            interpolation=_one_of(metadata, "interpolation", INTERPOLATIONS),
            mean=mean,
            std=std,
        ),
        preprocess_source=_source(metadata),
        checkpoint_sha256=_text(metadata, "checkpoint_sha256"),
        features=_features(metadata) if FEATURES in metadata else (),
        heads=_heads(metadata) if HEADS in metadata else (),
        numbers=_numbers(metadata) if NUMBERS in metadata else 0,
    )


def _text(metadata: Mapping[str, str], key: str) -> str:
    try:
        return metadata[key]
    except KeyError as error:
        message = f"metadata has no {key!r}: the file was not written by rexnet-export; export the model again"
        raise ConversionError(message) from error


def _json(metadata: Mapping[str, str], key: str, wanted: str) -> object:
    text = _text(metadata, key)
    try:
        return strict_loads(text, MOST_TEXT)
    except ConversionError as error:
        raise _damaged(metadata, key, wanted) from error


def _labels(metadata: Mapping[str, str]) -> tuple[str, ...]:
    wanted = "a JSON list of strings"
    labels = _json(metadata, "labels", wanted)
    if isinstance(labels, list) and all(isinstance(label, str) for label in labels):
        return tuple(labels)
    raise _damaged(metadata, "labels", wanted)


def _entries[T](
    metadata: Mapping[str, str], key: str, wanted: str, read: Callable[[object], T | None]
) -> tuple[T, ...]:
    """All entries of a list that is not empty, where `read` knows each."""
    found = _json(metadata, key, wanted)
    entries = [read(entry) for entry in found] if isinstance(found, list) else []
    known = tuple(entry for entry in entries if entry is not None)
    if not known or len(known) < len(entries):
        raise _damaged(metadata, key, wanted)
    return known


def _features(metadata: Mapping[str, str]) -> tuple[Feature, ...]:
    wanted = "a JSON list of outputs with name, stride and channels"
    return _entries(metadata, FEATURES, wanted, _feature)


def _feature(entry: object) -> Feature | None:
    match entry:
        case {"name": str(name), "stride": int(stride), "channels": int(channels)} if (
            not {type(stride), type(channels)} - {int} and stride >= 1 and 1 <= channels <= MOST_CHANNELS
        ):
            return Feature(name=name, stride=stride, channels=channels)
    return None


def _heads(metadata: Mapping[str, str]) -> tuple[HeadOutput, ...]:
    wanted = f"a JSON list of heads with a name that begins with {HEAD!r} and numbers"
    return _entries(metadata, HEADS, wanted, _head)


def _head(entry: object) -> HeadOutput | None:
    match entry:
        case {"name": str(name), "numbers": int(numbers)} if (
            type(numbers) is int and name.startswith(HEAD) and name.isprintable() and 1 <= numbers <= MOST_CHANNELS
        ):
            return HeadOutput(name=name, numbers=numbers)
    return None


def _numbers(metadata: Mapping[str, str]) -> int:
    wanted = "how many numbers the model gives"
    numbers = _json(metadata, NUMBERS, wanted)
    if type(numbers) is int and 1 <= numbers <= MOST_CHANNELS:
        return numbers
    raise _damaged(metadata, NUMBERS, wanted)


def _channel_numbers(metadata: Mapping[str, str], key: str) -> tuple[float, ...]:
    wanted = f"2 to {MOST_IMAGE_CHANNELS} finite numbers"
    numbers = _json(metadata, key, wanted)
    if isinstance(numbers, list) and 2 <= len(numbers) <= MOST_IMAGE_CHANNELS and all(map(_is_number, numbers)):
        return tuple(map(float, numbers))
    raise _damaged(metadata, key, wanted)


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _size_text(size: tuple[int, int]) -> str:
    """A square's side, or `HEIGHTxWIDTH`."""
    height, width = size
    return str(height) if height == width else f"{height}x{width}"


def _size(metadata: Mapping[str, str]) -> Size:
    text = _text(metadata, "input_size")
    sides = [
        int(side) for side in text.split("x", 1) if side.isascii() and side.isdigit() and len(side) <= MAX_SIZE_DIGITS
    ]
    match sides:
        case [side] if side > 0 and "x" not in text:
            return side
        case [height, width] if height > 0 and width > 0:
            return height, width
    raise _damaged(metadata, "input_size", "a number of pixels, or HEIGHTxWIDTH")


def _crop_ratio(metadata: Mapping[str, str]) -> float:
    wanted = "a number above 0, at most 1"
    ratio = _json(metadata, "crop_ratio", wanted)
    if _is_number(ratio) and 0 < ratio <= 1:
        return float(ratio)
    raise _damaged(metadata, "crop_ratio", wanted)


def _one_of[T: str](metadata: Mapping[str, str], key: str, choices: Sequence[T]) -> T:
    text = _text(metadata, key)
    for known in choices:
        if text == known:
            return known
    raise _damaged(metadata, key, f"one of {', '.join(choices)}")


def _source(metadata: Mapping[str, str]) -> dict[str, str]:
    """Who stated each field of the preprocessing."""
    wanted = "a JSON map from fields to who stated them"
    stated = _json(metadata, "preprocess_source", wanted)
    known = {field.name for field in fields(Preprocess)}
    if isinstance(stated, dict) and stated.keys() <= known and all(map(_is_source, stated.values())):
        return stated
    raise _damaged(metadata, "preprocess_source", wanted)


def _is_source(value: object) -> bool:
    return isinstance(value, str) and value.isprintable() and len(value) <= LONGEST_SOURCE


def _damaged(metadata: Mapping[str, str], key: str, wanted: str) -> ConversionError:
    found = metadata[key]
    shown = found if len(found) <= 40 else found[:40] + "..."
    return ConversionError(f"metadata {key!r} is {shown!r}, not {wanted}: the file is damaged; export the model again")
