"""Bit masks as text: which weights of a tensor round the other way, in a form that fits a JSON line."""

from __future__ import annotations

import base64
import binascii
import zlib

import numpy as np
from numpy.typing import NDArray

from rexnet_export.pipeline.core.errors import ConversionError

LEVEL = 9
LARGEST = 2**24  # bytes of an unpacked mask, eight weights each


def mask_text(mask: NDArray[np.bool_]) -> str:
    """Base64 of zlib of the bits in row-major order, the first in the highest bit of the first byte."""
    return base64.b64encode(zlib.compress(np.packbits(mask).tobytes(), LEVEL)).decode("ascii")


def parse_mask(text: str, size: int, where: str) -> NDArray[np.bool_]:
    """The `size` bits of a text by `mask_text`; anything else is a `ConversionError`."""
    length = -(-size // 8)
    content = _decoded(text, length, where)
    if len(content) != length:
        raise ConversionError(f"{where} is not a mask of {size} weights; make the table again")
    bits = np.unpackbits(np.frombuffer(content, np.uint8))
    if bits[size:].any():
        raise ConversionError(f"{where} marks weights beyond the {size} there are; make the table again")
    return bits[:size].astype(bool)


def check_mask(text: str, where: str) -> None:
    """Refuse what is no mask, of whatever size."""
    _decoded(text, LARGEST, where)


def _decoded(text: str, most: int, where: str) -> bytes:
    """At most `most` bytes; no more than one beyond is unpacked, however many a hostile text has."""
    reader = zlib.decompressobj()
    try:
        content = reader.decompress(base64.b64decode(text, validate=True), most + 1)
    except (binascii.Error, ValueError, zlib.error) as error:
        raise ConversionError(f"{where} is not base64 of zlib data ({error}); make the table again") from error
    if not reader.eof or reader.unused_data or len(content) > most:
        raise ConversionError(f"{where} is cut short or too long; make the table again")
    return content
