"""Fingerprints of what a file stores, tensor by tensor and word by word, so that damage names what it hit.

They show that a file is consistent with itself: whoever rewrites a file can write them too.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from rexnet_export.pipeline.artifact.metadata import KEYS
from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.strict_json import strict_loads
from rexnet_export.quantization.table.params import QuantParams

KEY = "fingerprints"
DIGITS = 12
SAYS = "metadata "  # in front of the name of a metadata key
LARGEST_TEXT = 2**20
LONGEST_NAME = 200
_FINGERPRINT = re.compile(f"[0-9a-f]{{{DIGITS}}}")

type Parameters = Mapping[str, NDArray[np.generic]]


def fingerprints(qparams: Mapping[str, QuantParams], parameters: Parameters) -> dict[str, str]:
    """By tensor name: the first 12 digits of a SHA-256 over scale, zero point, and a parameter's stored values."""
    return {
        name: _fingerprint(qparams.get(name), parameters.get(name)) for name in sorted({*qparams.keys(), *parameters})
    }


def described(
    qparams: Mapping[str, QuantParams], parameters: Parameters, metadata: Mapping[str, str]
) -> dict[str, str]:
    """The metadata entry a file carries its fingerprints in; `metadata` is all else that it says of itself."""
    written = fingerprints(qparams, parameters) | _of_words(metadata)
    return {KEY: json.dumps(written, separators=(",", ":"))}


def damaged(metadata: Mapping[str, str], qparams: Mapping[str, QuantParams], parameters: Parameters) -> list[str]:
    """Tensors, and keys of the metadata as `metadata labels`, that no longer have the fingerprint the file was written
    with, that are gone, or that are new."""
    written = _read(metadata)
    covered = {name.removeprefix(SAYS) for name in written if name.startswith(SAYS)}
    if not covered:
        raise ConversionError(
            "metadata has no fingerprints of itself: an older version wrote it; export the model again"
        )
    words = {key: text for key, text in metadata.items() if key in covered or key in KEYS}
    found = fingerprints(qparams, parameters) | _of_words(words)
    return sorted(name for name in written.keys() | found.keys() if written.get(name) != found.get(name))


def _of_words(metadata: Mapping[str, str]) -> dict[str, str]:
    return {
        f"{SAYS}{key}": hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:DIGITS]
        for key, text in sorted(metadata.items())
    }


def _fingerprint(params: QuantParams | None, values: NDArray[np.generic] | None) -> str:
    """Numbers in a fixed byte order, each part with its type and shape in front: no two contents share a text."""
    digest = hashlib.sha256()
    parts: list[NDArray[np.generic]] = []
    if params is not None:
        parts += [np.asarray(params.scale, "<f4"), np.asarray(params.zero_point, "<i4"), np.asarray(params.bits, "<i4")]
    if values is not None:
        parts.append(values.astype(values.dtype.newbyteorder("<")))
    for part in parts:
        digest.update(f"{part.dtype.kind}{part.dtype.itemsize}{part.shape}".encode())
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()[:DIGITS]


def _read(metadata: Mapping[str, str]) -> dict[str, str]:
    """The fingerprints in the metadata of a file that may come from anywhere."""
    text = metadata.get(KEY)
    if text is None:
        raise ConversionError(f"metadata has no {KEY!r}: the file was not written by this exporter; export it again")
    try:
        found = strict_loads(text, LARGEST_TEXT)
    except ConversionError:
        found = None
    if isinstance(found, dict) and all(_is_entry(name, value) for name, value in found.items()):
        return found
    raise ConversionError(f"metadata {KEY!r} is no map of fingerprints: the file is damaged; export the model again")


def _is_entry(name: str, value: object) -> bool:
    """Names are printed, so they must be short plain text."""
    return (
        len(name) <= LONGEST_NAME
        and name.isprintable()
        and isinstance(value, str)
        and _FINGERPRINT.fullmatch(value) is not None
    )
