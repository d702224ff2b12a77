"""The values that flow through the pipeline: frozen records that name files and facts, never live objects."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, get_args

from annotated_types import Ge, Gt, Interval, Len

from rexnet_export.pipeline.core.untrusted import package_members, require_untrusted

# What a value is, beyond its type. JSON is read by it, and the published schemas say it.
type Text = Annotated[str, Len(1)]
type Count = Annotated[int, Ge(0)]
type AtLeastOne = Annotated[int, Ge(1)]
type Positive = Annotated[float, Gt(0)]
type NotNegative = Annotated[float, Ge(0)]
type Drop = Annotated[float, Interval(ge=-1, le=1)]
type Fraction = Annotated[float, Interval(ge=0, le=1)]

MOST_BYTES = 2**40  # of any file that is given a digest: a device would never end

# `w8` and `w4` compute in float16 on weights of 8 and 4 bits.
type Precision = Literal["int8", "fp16", "fp32", "w8", "w4"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision.__value__)
# What a classifier's file gives for an image: logits, their softmax, or both.
type Scores = Literal["logits", "probabilities", "both"]
SCORES: tuple[Scores, ...] = get_args(Scores.__value__)

type Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]
INTERPOLATIONS: tuple[Interpolation, ...] = get_args(Interpolation.__value__)

type CropMode = Literal["center", "squash", "border"]
CROP_MODES: tuple[CropMode, ...] = get_args(CropMode.__value__)

type Activation = Literal["relu", "relu6", "silu", "hardswish", "tanh", "none"]
ACTIVATIONS: tuple[Activation, ...] = get_args(Activation.__value__)

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

ASSUMED = "assumed"  # who stated a field of the preprocessing, where nobody did

RGB = 3  # channels of a photo; images of other sensors have other numbers of them
MOST_CHANNELS = 64
type Channels = Annotated[tuple[float, ...], Len(2, MOST_CHANNELS)]


type Size = int | tuple[int, int]  # pixels of a square's side, or height and width


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """How an image becomes the network's input; the terms and the arithmetic are timm's.

    With PIL, the image is resized against `resize`, which is `floor(size / crop_ratio)`; `crop_mode` says how: `center`
    covers it, `squash` takes its shape, `border` fits into it, with the mean colour around. The middle `shape` is cut
    out, and pixels in [0, 1] are normalised by `mean` and `std`, one number each for every channel (RGB order).
    """

    size: Size = 224
    crop_mode: CropMode = "center"
    crop_ratio: float = 0.875
    interpolation: Interpolation = "bicubic"
    mean: Channels = IMAGENET_MEAN
    std: Channels = IMAGENET_STD

    def __post_init__(self) -> None:
        """A square has one way to be written."""
        if isinstance(self.size, tuple) and self.size[0] == self.size[1]:
            object.__setattr__(self, "size", self.size[0])

    @property
    def channels(self) -> int:
        """How many channels an image has: three of a photo."""
        return len(self.mean)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the network's input."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    @property
    def resize(self) -> tuple[int, int]:
        """Height and width that an image is resized against before cropping."""
        height, width = self.shape
        return math.floor(height / self.crop_ratio), math.floor(width / self.crop_ratio)


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """A file (or folder bundle such as `.mlpackage`) and the digest of its content."""

    path: Path
    sha256: str
    bytes: int


def stored_file(path: Path) -> StoredFile:
    """Record a finished file; a folder's digest covers its relative names and contents in sorted order.

    `OSError` where it is neither, or where a folder holds a link, a device or too many files.
    """
    if not path.is_dir():
        require_untrusted(path, MOST_BYTES)
        return StoredFile(path=path, sha256=file_sha256(path), bytes=path.stat().st_size)
    members = list(package_members(path))
    digest = hashlib.sha256()
    for member in members:
        digest.update(f"{member.relative_to(path).as_posix()}\0{file_sha256(member)}\n".encode())
    return StoredFile(path=path, sha256=digest.hexdigest(), bytes=sum(m.stat().st_size for m in members))


def stored_files(path: Path, beside: Sequence[Path]) -> StoredFile:
    """A file whose content goes on in others beside it: one digest of all, as a folder's; without any its own."""
    if not beside:
        return stored_file(path)
    files = [stored_file(each) for each in (path, *beside)]
    digest = hashlib.sha256("".join(f"{each.path.name}\0{each.sha256}\n" for each in files).encode()).hexdigest()
    return StoredFile(path=path, sha256=digest, bytes=sum(each.bytes for each in files))


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that appears complete or not at all; what the disk refuses is the `OSError` it raised."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())  # a name that is on the disk before its content would be an empty file
        temporary.replace(path)
    finally:
        with suppress(OSError):  # already renamed, or never created
            temporary.unlink()


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One output of a backbone: its ONNX tensor, how many image pixels are one of its own, and its channels."""

    name: str
    stride: int
    channels: int


@dataclass(frozen=True, kw_only=True)
class HeadOutput:
    """A further output on the pooled features: its ONNX tensor, and how many numbers it gives for an image."""

    name: str
    numbers: int


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How a checkpoint is to be read where its tensors leave a choice; None takes what is usual, and says so.

    `weights` names one of several networks, `head` the one of several heads whose outputs are the logits;
    `head_activation` is what stands between a head's linear layers, and `activation_stated` whether the file itself
    says so. `headless` allows a file without a classifier.
    """

    weights: str | None = None
    head: str | None = None
    head_activation: Activation | None = None
    activation_stated: bool = False
    headless: bool = False


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What every artifact says about itself; `preprocess_source` says by field of `preprocess` who stated it.

    A network without its head has `features` as outputs, the finest first, and no labels. One that gives `numbers` in
    place of classes (regression) has no labels either. `heads` are outputs beside the logits.
    """

    name: str
    labels: tuple[str, ...]
    preprocess: Preprocess
    checkpoint_sha256: str
    preprocess_source: Mapping[str, str] = field(default_factory=dict)
    features: tuple[Feature, ...] = ()
    heads: tuple[HeadOutput, ...] = ()
    numbers: int = 0

    @property
    def outputs(self) -> tuple[str, ...]:
        """What leaves the network, by ONNX tensor name."""
        return tuple(feature.name for feature in self.features) or ("logits", *(head.name for head in self.heads))

    @property
    def answers(self) -> int:
        """How many numbers `run` gives for an image: the logits', or the mean of each feature channel."""
        return sum(feature.channels for feature in self.features) or self.numbers or len(self.labels)


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A finished, converted file of one target.

    `presets` are the same network for other processors, runnable by the same target; `companions` lie beside it
    (a QDQ `.onnx`, an operator config).
    """

    target: str
    precision: Precision
    file: StoredFile
    presets: Mapping[str, StoredFile] = field(default_factory=dict)
    companions: tuple[StoredFile, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """What the file really computes in: multiply-accumulates by kind, and the float operators left between
    input and logits (as `name (type)`), counted from the file, not from intent.

    `float_layers`: the weights, by ONNX name, of all that multiplies in anything but INT8 x INT8.
    """

    int8_macs: int
    total_macs: int
    float_ops: tuple[str, ...]
    float_layers: tuple[str, ...] = ()

    @property
    def int8_mac_fraction(self) -> float:
        """Share of multiply-accumulates computed INT8 x INT8; none of none is none."""
        return self.int8_macs / self.total_macs if self.total_macs else 0.0


@dataclass(frozen=True, kw_only=True)
class NotMeasured:
    """A measurement that was not taken, and why; it can never read as one that passed.

    Its JSON is `{"not_measured": reason}`.
    """

    reason: Text = field(metadata={"alias": "not_measured"})


type Measurement[T] = T | NotMeasured
