"""Images and labels in IDX files, the format of MNIST and its successors, plain or gzipped."""

from __future__ import annotations

import gzip
import io
import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rexnet_export.pipeline.core.errors import DataError
from rexnet_export.pipeline.labels.label_files import read_labels, renumbered

UNSIGNED_BYTE = 8
GZIP_MAGIC = b"\x1f\x8b"
# Deflate's best ratio: what a damaged header promises beyond it (up to 2^96 values) need not be allocated.
MOST_EXPANSION = 1032


@dataclass(frozen=True, kw_only=True)
class IdxImages:
    """Grayscale images uint8 [n, H, W] held in memory, shown as RGB by repeating the channel."""

    name: str
    pixels: NDArray[np.uint8]
    labels: Sequence[int] | None = None
    class_names: tuple[str, ...] | None = None
    remarks: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.pixels)

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """`NAME/INDEX` for every image."""
        return tuple(f"{self.name}/{index}" for index in range(len(self.pixels)))

    def content(self, index: int) -> bytes:
        """The stored pixels, row by row."""
        image: NDArray[np.uint8] = self.pixels[index]
        return image.tobytes()

    def probe(self, index: int) -> None:
        """Nothing to find: opening the file has checked all of it."""

    def load(self, index: int) -> Image.Image:
        """The image in RGB."""
        return Image.fromarray(self.pixels[index]).convert("RGB")


def is_idx(path: Path) -> bool:
    """Whether the name is that of IDX images, such as `t10k-images-idx3-ubyte.gz`."""
    return path.name.removesuffix(".gz").endswith("idx3-ubyte")


def open_idx(images: Path, *, labelled: bool) -> IdxImages:
    """Read an image file, its label file beside it (`images` -> `labels`, `idx3` -> `idx1`), and `labels.txt`."""
    labels = None
    if labelled:
        beside = images.with_name(images.name.replace("images", "labels").replace("idx3", "idx1"))
        if beside == images or not beside.is_file():
            raise DataError(f"{images} needs its label file {beside.name} beside it; add it or name an image folder")
        labels = _bytes(beside)
    names = images.with_name("labels.txt")
    named = labelled and names.is_file()
    found = idx_images(_bytes(images), labels, name=images.name, class_names=read_labels(names) if named else None)
    told = renumbered(names) if named else None
    return replace(found, remarks=(told,)) if told else found


def idx_images(
    images: bytes, labels: bytes | None, *, name: str, class_names: tuple[str, ...] | None = None
) -> IdxImages:
    """Join the contents of an image file and of a label file."""
    pixels = parse_idx(images, rank=3, name=name)
    if labels is None:
        return IdxImages(name=name, pixels=pixels)
    values = parse_idx(labels, rank=1, name=f"labels of {name}")
    if len(values) != len(pixels):
        raise DataError(f"{name} has {len(pixels)} images but {len(values)} labels; pair it with its own label file")
    if class_names is not None and values.max() >= len(class_names):
        raise DataError(f"{name} has label {values.max()} but labels.txt names {len(class_names)} classes")
    return IdxImages(name=name, pixels=pixels, labels=tuple(values.tolist()), class_names=class_names)


def parse_idx(content: bytes, *, rank: int, name: str) -> NDArray[np.uint8]:
    """Decode an IDX file of unsigned bytes: 0, 0, type, rank, then big-endian uint32 sizes, then the values."""
    stream = gzip.GzipFile(fileobj=io.BytesIO(content)) if content.startswith(GZIP_MAGIC) else io.BytesIO(content)
    try:
        header = stream.read(4 + 4 * rank)
        if header[:4] != bytes((0, 0, UNSIGNED_BYTE, rank)) or len(header) < 4 + 4 * rank:
            raise DataError(
                f"{name} is not an IDX file of unsigned bytes and rank {rank}; check that it is the right one"
            )
        shape = struct.unpack(f">{rank}I", header[4:])
        expected = math.prod(shape)
        # One byte more than promised shows a longer file without unpacking all of it.
        values = stream.read(min(expected, MOST_EXPANSION * len(content)) + 1)
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"{name} is damaged ({error}); fetch it again") from error
    if len(values) != expected or not expected:
        raise DataError(f"{name} promises {expected} values {list(shape)} but holds {len(values)}; fetch it again")
    return np.frombuffer(values, np.uint8).reshape(shape)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; check the path and its permissions") from error
