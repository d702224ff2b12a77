"""Stored images opened with care: what decoding takes is known before it is done, and whatever goes wrong is named.

A photo has three channels. Images of other sensors have others: each is kept as a grey image of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from importlib.util import find_spec
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageSequence, UnidentifiedImageError

from rexnet_export.pipeline.core.array_files import parse_array
from rexnet_export.pipeline.core.errors import DataError
from rexnet_export.pipeline.core.records import RGB
from rexnet_export.pipeline.data.cures import HEAD, kind_of

type Picture = Image.Image | tuple[Image.Image, ...]  # in RGB, or a grey image for each other channel

# Content decides, not the suffix; named here because Pillow's EPS reader would start Ghostscript on a renamed file.
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "AVIF", "TIFF", "PPM", "GIF")
# Converting these to RGB clips at 255 instead of scaling, which would silently whiten the image.
DEEP_MODES = ("I", "F")
DEEP = "more than 8 bits per channel: scale it to 8 bits as in training, such as `magick in.png -depth 8 out.png`"
LARGE = 16_000_000  # pixels; larger images are decoded one at a time, whatever the number of threads
_one_large = threading.Lock()
NUMPY_MAGIC = b"\x93NUMPY"
MOST_ARRAY = 2**30  # bytes
PLANES = frozenset({"LA", "RGBA", "CMYK"})  # pages whose bands are what a sensor saw, not a palette or a colour space


def probe(stream: BinaryIO, channels: int = RGB) -> None:
    """Decode all of it, as small as the format allows; `DataError` says why it is no image we can use."""
    if channels != RGB:
        _bands(stream, channels)
        return
    with _opened(stream) as image, _in_turn(image):
        image.draft("RGB", (1, 1))  # JPEG alone: its data is read whole, but an eighth of the side computed
        image.load()


def decode(stream: BinaryIO, channels: int = RGB) -> Picture:
    """The image in RGB, or with other channels; EXIF rotation is not applied, as in timm and torchvision.

    Raises `DataError`.
    """
    if channels != RGB:
        return _bands(stream, channels)
    with _opened(stream) as image, _in_turn(image):
        return image.convert("RGB")


def _bands(stream: BinaryIO, channels: int) -> tuple[Image.Image, ...]:
    """The channels of a NumPy array, of an image's one page, or one from each page."""
    if stream.read(len(NUMPY_MAGIC)) == NUMPY_MAGIC:
        return _of_array(NUMPY_MAGIC + stream.read(MOST_ARRAY), channels)
    stream.seek(0)
    with _opened(stream) as image, _in_turn(image):
        pages, bands = getattr(image, "n_frames", 1), image.getbands()
        if pages == 1 and image.mode in PLANES and len(bands) == channels:
            return image.split()
        if pages != channels or image.mode != "L":
            raise DataError(
                f"{pages} x {'/'.join(bands)} where the network takes {channels} channels: give uint8 arrays "
                f"[H, W, {channels}] (.npy), or TIFF files of {channels} grey pages"
            )
        found, size = [], image.size
        for page in ImageSequence.Iterator(image):
            if (page.mode, page.size) != ("L", size):  # asked before its pixels are: the first page's are few enough
                raise DataError("its pages differ in size or in kind: give one size, 8 bits of grey each")
            found.append(page.copy())
        return tuple(found)


def _of_array(content: bytes, channels: int) -> tuple[Image.Image, ...]:
    """[H, W, C], or [C, H, W] where only that has so many channels."""
    values = parse_array(content)
    if values.dtype == np.uint8 and values.ndim == 3 and min(values.shape) > 0:
        if values.shape[2] != channels and values.shape[0] == channels:
            values = values.transpose(1, 2, 0)
        if values.shape[2] == channels:
            return tuple(Image.fromarray(np.ascontiguousarray(values[:, :, band])) for band in range(channels))
    raise DataError(f"{values.dtype} {[*values.shape]}, not uint8 [H, W, {channels}]")


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Turn whatever goes wrong into a `DataError` that starts with the image's name."""
    try:
        yield
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise DataError(f"{name} ({' '.join(reason.split())})") from error


@contextmanager
def _opened(stream: BinaryIO) -> Iterator[Image.Image]:
    """Read the header, which says what decoding would take."""
    try:
        image = Image.open(stream, formats=_formats())
    except UnidentifiedImageError as error:
        stream.seek(0)
        head = stream.read(HEAD)
        kind = kind_of(head) if head else "an empty file"
        if kind and kind.startswith("HEIC") and _formats() != FORMATS:
            kind = "a damaged HEIC file"
        raise DataError(kind or "not an image") from error
    with image:
        if image.width * image.height > (Image.MAX_IMAGE_PIXELS or image.width * image.height):
            raise DataError(f"{image.width:,} x {image.height:,} pixels: more than {Image.MAX_IMAGE_PIXELS:,}")
        if image.mode.startswith(DEEP_MODES):
            raise DataError(DEEP)
        yield image


@cache
def _formats() -> tuple[str, ...]:
    """HEIC needs a library that not everybody has: the extra `data`."""
    if find_spec("pillow_heif") is None:
        return FORMATS
    from pillow_heif import register_heif_opener  # noqa: PLC0415 - an extra

    register_heif_opener(thumbnails=False)
    return (*FORMATS, "HEIF")


def _in_turn(image: Image.Image) -> threading.Lock | nullcontext[None]:
    """Memory for one large image at a time."""
    return _one_large if image.width * image.height > LARGE else nullcontext()
