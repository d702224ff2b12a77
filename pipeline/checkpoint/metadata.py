"""What a checkpoint says about itself in words: the string metadata of our safetensors files, and its checks."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeGuard

from rexnet_export.pipeline.core.errors import CheckpointError, ConversionError
from rexnet_export.pipeline.core.records import (
    ACTIVATIONS,
    ASSUMED,
    CROP_MODES,
    INTERPOLATIONS,
    MOST_CHANNELS,
    RGB,
    Activation,
    CropMode,
    Interpolation,
    Preprocess,
)
from rexnet_export.pipeline.core.strict_json import strict_loads
from rexnet_export.pipeline.core.text import excerpt, is_unicode
from rexnet_export.pipeline.model.architecture import Architecture

FORMAT = "rexnet-export"
FORMAT_VERSION = "1"
HEAD_ACTIVATION = "head_activation"
GRAPH_JSON, GRAPH_WORDS = ("crop_ratio", "mean", "std"), ("crop_mode", "interpolation")  # entries of graphs of ours
QPARAMS_KEY = "qparams"  # where quantization-aware training leaves its table, as JSON
LARGEST_SIZE = 4096


@dataclass(frozen=True, kw_only=True)
class StatedPreprocess:
    """What a checkpoint, and the files beside it, say of preprocessing; a field that nothing states is None.

    `size` is (height, width); `mean` and `std` have a number a channel, or one for all. `sources` tells by field
    where its value was read: "metadata" (ours), "args" (timm's training options) or "config.json".
    """

    size: tuple[int, int] | None = None
    crop_ratio: float | None = None
    crop_mode: CropMode | None = None
    interpolation: Interpolation | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    sources: Mapping[str, str] = field(default_factory=dict)

    def fields(self, channels: int = RGB) -> dict[str, Any]:
        """What is stated, as fields of `Preprocess`; one number serves for all channels."""
        stated = {name: value for name in STATED if (value := getattr(self, name)) is not None}
        alone = {name: stated[name] * channels for name in ("mean", "std") if len(stated.get(name, ())) == 1}
        return stated | alone

    def over(self, other: StatedPreprocess) -> StatedPreprocess:
        """Both statements as one; where both say something this one wins."""
        mine = {name: value for name in STATED if (value := getattr(self, name)) is not None}
        theirs = {name: getattr(other, name) for name in STATED}
        return StatedPreprocess(**{**theirs, **mine}, sources={**other.sources, **self.sources})


STATED = tuple(f.name for f in fields(StatedPreprocess) if f.name != "sources")


@dataclass(frozen=True, kw_only=True)
class Stated:
    """Everything said about how a network is used: preprocessing, and one label a class with where they were read."""

    preprocess: StatedPreprocess = field(default_factory=StatedPreprocess)
    labels: tuple[str, ...] | None = None
    labels_source: str | None = None

    def over(self, other: Stated) -> Stated:
        """Both as one; where both say something this one wins."""
        named = other if self.labels is None else self
        return Stated(
            preprocess=self.preprocess.over(other.preprocess),
            labels=named.labels,
            labels_source=named.labels_source,
        )


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
        **({HEAD_ACTIVATION: spec.activation} if spec.activation != "none" else {}),
        **({} if spec.published_depth else {"strides": spec.strides}),
    }


def head_activation(metadata: Mapping[str, str], where: str) -> Activation | None:
    """What our metadata says to stand between a head's layers: nothing, where it speaks of none."""
    if not is_ours(metadata):
        return None
    stated = metadata.get(HEAD_ACTIVATION, "none")
    for known in ACTIVATIONS:
        if stated == known:
            return known
    raise CheckpointError(f"{where} has {HEAD_ACTIVATION} {excerpt(repr(stated))}, not one of {', '.join(ACTIVATIONS)}")


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
    claims = _identity(spec) | ({"strides": spec.strides} if "strides" in metadata else {})
    for key, found in claims.items():
        if metadata.get(key) != found:
            claim = metadata.get(key)
            raise CheckpointError(f"{where} says {key} {claim!r}, but its tensors say {found!r}: save it again")


def check_label_count(labels: tuple[str, ...] | None, spec: Architecture, where: str) -> None:
    """Refuse labels that are not one per class; of a network that gives numbers there are none."""
    if labels and len(labels) != spec.classes:
        raise CheckpointError(f"{where} names {len(labels)} labels for a classifier of {spec.classes} classes")
    if strange := [label for label in labels or () if not is_unicode(label)]:
        raise CheckpointError(
            f"{where} names the label {strange[0]!a}, which is no Unicode text: save it again without"
        )


def check_channels(stated: StatedPreprocess, spec: Architecture, where: str) -> None:
    """Refuse a mean or std that has neither one number nor one for each channel of the network's images."""
    for name in ("mean", "std"):
        numbers = getattr(stated, name)
        if numbers is not None and len(numbers) not in (1, spec.channels):
            raise CheckpointError(
                f"preprocess of {where} has {name} {shown(numbers)}, not a number for each of the network's "
                f"{spec.channels} channels"
            )


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


def read_stated(metadata: Mapping[str, str], where: str) -> Stated:
    """What our metadata says of preprocessing and labels."""
    preprocess, labels = StatedPreprocess(), read_labels(metadata, where)
    if (ours := read_preprocess(metadata, where)) is not None:
        preprocess = state_preprocess(asdict(ours), "metadata", where)
    return Stated(preprocess=preprocess, labels=labels, labels_source="metadata" if labels else None)


def graph_stated(metadata: Mapping[str, str], size: Sequence[int] | None, where: str) -> Stated:
    """What an ONNX graph says: the `size` of its input where that is fixed, and more where this project wrote it.

    The metadata of ours is as `pipeline.artifact.metadata` has it; what their export assumed is stated by nobody yet.
    """
    if not metadata.get("generator", "").startswith(FORMAT):
        return Stated(preprocess=state_preprocess({"size": size}, "graph", where))
    read = {name: _from_json(metadata[name], f"{name} of {where}") for name in GRAPH_JSON if name in metadata}
    read |= {"size": size, **{name: metadata[name] for name in GRAPH_WORDS if name in metadata}}
    sources = _from_json(metadata.get("preprocess_source", "{}"), f"preprocess_source of {where}")
    assumed = {name for name, by in sources.items() if by == ASSUMED} if isinstance(sources, dict) else set()
    labels = parse_labels(_from_json(metadata.get("labels", "[]"), f"labels of {where}"), where) or None
    return Stated(
        preprocess=state_preprocess({name: read[name] for name in read.keys() - assumed}, "metadata", where),
        labels=labels,
        labels_source="metadata" if labels else None,
    )


def _from_json(text: str, what: str) -> object:
    try:
        return strict_loads(text)
    except ConversionError as error:
        raise CheckpointError(f"{what} is not JSON: {error}") from error


def parse_labels(values: object, where: str) -> tuple[str, ...]:
    """A JSON list of strings as labels; names may repeat (ImageNet has two cranes)."""
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise CheckpointError(f"labels of {where} are not a list of strings")
    return tuple(values)


def parse_preprocess(values: object, where: str) -> Preprocess:
    """A JSON object with exactly `Preprocess`'s fields, each checked for type and range.

    Releases before there was a `crop_mode` cropped the centre.
    """
    if isinstance(values, dict):
        values = {"crop_mode": "center", **values}
    if not isinstance(values, dict) or set(values) != set(asdict(Preprocess())):
        raise CheckpointError(f"preprocess of {where} needs exactly {', '.join(asdict(Preprocess()))}")
    ratio, interpolation = values["crop_ratio"], values["interpolation"]
    size = _size(values["size"], where)
    if not _is_number(ratio) or not 0 < ratio <= 1:
        raise CheckpointError(f"preprocess of {where} has crop_ratio {ratio!r}, not in (0, 1]")
    if interpolation not in INTERPOLATIONS:
        raise CheckpointError(
            f"preprocess of {where} has interpolation {interpolation!r}, not one of {', '.join(INTERPOLATIONS)}"
        )
    mode = values["crop_mode"]
    if mode not in CROP_MODES:
        raise CheckpointError(f"preprocess of {where} has crop_mode {mode!r}, not one of {', '.join(CROP_MODES)}")
    mean, std = _numbers("mean")(values["mean"], where), _numbers("std")(values["std"], where)
    if len(mean) != len(std) or len(mean) == 1:
        raise CheckpointError(
            f"preprocess of {where} has mean {shown(mean)} and std {shown(std)}, not a number each for every channel"
        )
    return Preprocess(
        size=size, crop_mode=mode, crop_ratio=float(ratio), interpolation=interpolation, mean=mean, std=std
    )


def state_preprocess(values: Mapping[str, object], source: str, where: str) -> StatedPreprocess:
    """Some of `StatedPreprocess`'s fields as a file has them, each checked; one number serves for several."""
    given = {name: _FIELDS[name](value, where) for name in STATED if (value := values.get(name)) is not None}
    return StatedPreprocess(**given, sources=dict.fromkeys(given, source))


def _size(value: object, where: str) -> tuple[int, int]:
    match [value, value] if isinstance(value, int) else value:
        case [int() as height, int() as width] if not {type(height), type(width)} - {int}:
            if all(1 <= side <= LARGEST_SIZE for side in (height, width)):
                return height, width
    raise CheckpointError(f"preprocess of {where} has size {shown(value)}, not 1 to {LARGEST_SIZE} pixels")


def _ratio(value: object, where: str) -> float:
    if not _is_number(value) or not 0 < value <= 1:
        raise CheckpointError(f"preprocess of {where} has crop_ratio {shown(value)}, not in (0, 1]")
    return float(value)


def _one_of(name: str, choices: tuple[str, ...]) -> Callable[[object, str], str]:
    def read(value: object, where: str) -> str:
        if not isinstance(value, str) or value not in choices:
            known = ", ".join(choices)
            raise CheckpointError(f"preprocess of {where} has {name} {shown(value)}, not one of {known}")
        return value

    return read


def _numbers(name: str) -> Callable[[object, str], tuple[float, ...]]:
    def read(value: object, where: str) -> tuple[float, ...]:
        many = list(value[: MOST_CHANNELS + 1]) if isinstance(value, list | tuple) else [value]
        numbers = tuple(float(each) for each in many if _is_number(each))
        if not len(many) == len(numbers) <= MOST_CHANNELS or not numbers:
            raise CheckpointError(f"preprocess of {where} has {name} {shown(value)}, not a number for each channel")
        if name == "std" and min(numbers) <= 0:
            raise CheckpointError(f"preprocess of {where} has std {shown(value)}, which must be positive")
        return numbers

    return read


_FIELDS: Mapping[str, Callable[[object, str], Any]] = {
    "size": _size,
    "crop_ratio": _ratio,
    "crop_mode": _one_of("crop_mode", CROP_MODES),
    "interpolation": _one_of("interpolation", INTERPOLATIONS),
    "mean": _numbers("mean"),
    "std": _numbers("std"),
}


def shown(value: object) -> str:
    """A foreign value for a message: short, in one line, and never an integer too long to print."""
    try:
        return excerpt(repr(value))
    except ValueError:
        return "a number too long to print"


def _is_number(value: object) -> TypeGuard[int | float]:
    # The bounds also stop NaN, infinity and integers too long for a float.
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e6 < value < 1e6
