"""Images that two choices have in common."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from rexnet_export.pipeline.data.selection import Images


def in_common(known: Images, asked: Images) -> int:
    """How many of the images `asked` are stored, byte for byte, among the `known` ones, whatever they are called."""
    digests = set(_digests(known))
    return sum(digest in digests for digest in _digests(asked))


def _digests(images: Images) -> Iterator[bytes]:
    return (hashlib.sha256(images.source.content(index)).digest() for index in images.indices)
