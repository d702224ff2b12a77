"""What every artifact says about itself, as the flat string map that all three formats can hold."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from importlib.metadata import version

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.records import (
    CROP_MODES,
    INTERPOLATIONS,
    Feature,
    ModelCard,
    Precision,
    Preprocess,
    Size,
)

DIGESTS = ("float_onnx_sha256", "table_sha256")
FEATURES = "features"
MOST_CHANNELS = 2**16
FLOAT_TENSORS = "float_tensors"
# All that `describe` may write: each changes what the file means or what it is taken for.
KEYS = (
    *("model", "precision", "labels", "input_size", "resize", "crop_ratio", "interpolation", "mean", "std"),
    *("checkpoint_sha256", "generator", FEATURES, FLOAT_TENSORS, *DIGESTS),
)
MAX_SIZE_DIGITS = 5
LONGEST_SOURCE = 200


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
        "checkpoint_sha256": card.checkpoint_sha256,
        "generator": f"rexnet-export {version('rexnet-export')}",
        **({FEATURES: json.dumps(features)} if features else {}),
        **({FLOAT_TENSORS: json.dumps(list(float_tensors))} if float_tensors else {}),
        **digests,
    }


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
    std = _three_numbers(metadata, "std")
    if min(std) <= 0:
        raise _damaged(metadata, "std", "three numbers above 0")
    return ModelCard(
        name=_text(metadata, "model"),
        labels=_labels(metadata),
        preprocess=Preprocess(
            size=_size(metadata),
            crop_mode=_one_of(metadata, "crop_mode", CROP_MODES),
            crop_ratio=_crop_ratio(metadata),
            interpolation=_one_of(metadata, "interpolation", INTERPOLATIONS),
            mean=_three_numbers(metadata, "mean"),
            std=std,
        ),
        preprocess_source=_source(metadata),
        checkpoint_sha256=_text(metadata, "checkpoint_sha256"),
        features=_features(metadata) if FEATURES in metadata else (),
    )


def _text(metadata: Mapping[str, str], key: str) -> str:
    try:
        return metadata[key]
    except KeyError as error:
        message = f"metadata has no {key!r}: the file was not written by rexnet-export; export the model again"
        raise ConversionError(message) from error


def _json(metadata: Mapping[str, str], key: str, wanted: str) -> object:
    try:
        # Integers are read as floats: "1" is a fair crop ratio, and a thousand digits become inf, not memory.
        return json.loads(_text(metadata, key), parse_int=float)
    except (ValueError, RecursionError) as error:
        raise _damaged(metadata, key, wanted) from error


def _labels(metadata: Mapping[str, str]) -> tuple[str, ...]:
    wanted = "a JSON list of strings"
    labels = _json(metadata, "labels", wanted)
    if isinstance(labels, list) and all(isinstance(label, str) for label in labels):
        return tuple(labels)
    raise _damaged(metadata, "labels", wanted)


def _features(metadata: Mapping[str, str]) -> tuple[Feature, ...]:
    wanted = "a JSON list of outputs with name, stride and channels"
    found = _json(metadata, FEATURES, wanted)
    features = [_feature(entry) for entry in found] if isinstance(found, list) else []
    named = [feature for feature in features if feature is not None]
    if named and len(named) == len(features):
        return tuple(named)
    raise _damaged(metadata, FEATURES, wanted)


def _feature(entry: object) -> Feature | None:
    match entry:
        case {"name": str(name), "stride": float(stride), "channels": float(channels)} if (
            stride.is_integer() and channels.is_integer() and stride >= 1 and 1 <= channels <= MOST_CHANNELS
        ):
            return Feature(name=name, stride=int(stride), channels=int(channels))
    return None


def _three_numbers(metadata: Mapping[str, str], key: str) -> tuple[float, float, float]:
    wanted = "three finite numbers"
    numbers = _json(metadata, key, wanted)
    if isinstance(numbers, list) and len(numbers) == 3 and all(map(_is_finite, numbers)):
        red, green, blue = numbers
        return red, green, blue
    raise _damaged(metadata, key, wanted)


def _is_finite(value: object) -> bool:
    return isinstance(value, float) and math.isfinite(value)


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
    if isinstance(ratio, float) and 0 < ratio <= 1:
        return ratio
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
