"""What a checkpoint says about itself in words: the string metadata of our safetensors files, and its checks."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import TypeGuard

from rexnet_export.pipeline.core.errors import CheckpointError
from rexnet_export.pipeline.core.records import INTERPOLATIONS, Preprocess
from rexnet_export.pipeline.model.rexnet import Architecture

FORMAT = "rexnet-export"
FORMAT_VERSION = "1"
QPARAMS_KEY = "qparams"  # where quantization-aware training leaves its table, as JSON
LARGEST_SIZE = 4096


def encode(spec: Architecture, labels: tuple[str, ...] | None, preprocess: Preprocess | None) -> dict[str, str]:
    """Our metadata, all strings as safetensors wants; labels and preprocessing are JSON, absent where unknown."""
    metadata = {"format": FORMAT, "format_version": FORMAT_VERSION, **_identity(spec)}
    if labels is not None:
        metadata["labels"] = json.dumps(labels, ensure_ascii=False)
    if preprocess is not None:
        metadata["preprocess"] = json.dumps(asdict(preprocess))
    return metadata


def _identity(spec: Architecture) -> dict[str, str]:
    return {
        "variant": spec.variant,
        "width": str(spec.width),
        "use_se": json.dumps(spec.squeezed),
        "classes": str(spec.classes),
    }


def is_ours(metadata: Mapping[str, str]) -> bool:
    """Whether the file was written by `save_checkpoint`; timm's files say `pt` or nothing."""
    return metadata.get("format") == FORMAT


def width_hint(metadata: Mapping[str, str]) -> float | None:
    """The width our metadata claims, where it is a width at all: needed for widths beyond two decimals."""
    try:
        width = float(metadata.get("width", "")) if is_ours(metadata) else math.nan
    except ValueError:
        return None
    return width if 0.1 <= width <= 6.0 else None


def check_claims(metadata: Mapping[str, str], spec: Architecture, where: str) -> None:
    """Refuse a file of ours whose words and shapes disagree, or that a newer release wrote."""
    if not is_ours(metadata):
        return
    if metadata.get("format_version") != FORMAT_VERSION:
        version = metadata.get("format_version")
        raise CheckpointError(f"{where} has format_version {version!r}, this release reads {FORMAT_VERSION}: update it")
    for key, found in _identity(spec).items():
        if metadata.get(key) != found:
            claim = metadata.get(key)
            raise CheckpointError(f"{where} says {key} {claim!r}, but its tensors say {found!r}: save it again")


def check_label_count(labels: tuple[str, ...] | None, spec: Architecture, where: str) -> None:
    """Refuse labels that are not one per class."""
    if labels is not None and len(labels) != spec.classes:
        raise CheckpointError(f"{where} names {len(labels)} labels for a classifier of {spec.classes} classes")


def read_labels(metadata: Mapping[str, str], where: str) -> tuple[str, ...] | None:
    """The class labels our metadata holds."""
    if not is_ours(metadata) or "labels" not in metadata:
        return None
    return parse_labels(_from_json(metadata["labels"], f"labels of {where}"), where)


def read_preprocess(metadata: Mapping[str, str], where: str) -> Preprocess | None:
    """The preprocessing our metadata holds."""
    if not is_ours(metadata) or "preprocess" not in metadata:
        return None
    return parse_preprocess(_from_json(metadata["preprocess"], f"preprocess of {where}"), where)


def _from_json(text: str, what: str) -> object:
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{what} is not JSON: {error}") from error
    return value


def parse_labels(values: object, where: str) -> tuple[str, ...]:
    """A JSON list of strings as labels; names may repeat (ImageNet has two cranes)."""
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise CheckpointError(f"labels of {where} are not a list of strings")
    return tuple(values)


def parse_preprocess(values: object, where: str) -> Preprocess:
    """A JSON object with exactly `Preprocess`'s fields, each checked for type and range."""
    if not isinstance(values, dict) or set(values) != set(asdict(Preprocess())):
        raise CheckpointError(f"preprocess of {where} needs exactly {', '.join(asdict(Preprocess()))}")
    size, ratio, interpolation = values["size"], values["crop_ratio"], values["interpolation"]
    if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= LARGEST_SIZE:
        raise CheckpointError(f"preprocess of {where} has size {size!r}, not 1 to {LARGEST_SIZE} pixels")
    if not _is_number(ratio) or not 0 < ratio <= 1:
        raise CheckpointError(f"preprocess of {where} has crop_ratio {ratio!r}, not in (0, 1]")
    if interpolation not in INTERPOLATIONS:
        raise CheckpointError(
            f"preprocess of {where} has interpolation {interpolation!r}, not one of {', '.join(INTERPOLATIONS)}"
        )
    mean, std = _channels(values, "mean", where), _channels(values, "std", where)
    if min(std) <= 0:
        raise CheckpointError(f"preprocess of {where} has std {std}, which must be positive")
    return Preprocess(size=size, crop_ratio=float(ratio), interpolation=interpolation, mean=mean, std=std)


def _channels(values: Mapping[str, object], key: str, where: str) -> tuple[float, float, float]:
    match values[key]:
        case [red, green, blue] if _is_number(red) and _is_number(green) and _is_number(blue):
            return float(red), float(green), float(blue)
        case other:
            raise CheckpointError(f"preprocess of {where} has {key} {other!r}, not three numbers")


def _is_number(value: object) -> TypeGuard[int | float]:
    # The bounds also stop NaN, infinity and integers too long for a float.
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e6 < value < 1e6
