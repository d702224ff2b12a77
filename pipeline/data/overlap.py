"""Images that two choices have in common."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from rexnet_export.pipeline.core.progress import Bar, Progress
from rexnet_export.pipeline.data.selection import Images


def in_common(known: Images, asked: Images, progress: Progress) -> int:
    """How many of the images `asked` are stored, byte for byte, among the `known` ones, whatever they are called."""
    count = len(known.indices) + len(asked.indices)
    with progress.stage("looking for images that serve twice", count, "images") as bar:
        digests = set(_digests(known, bar))
        return sum(digest in digests for digest in _digests(asked, bar))


def _digests(images: Images, bar: Bar) -> Iterator[bytes]:
    for index in images.indices:
        yield hashlib.sha256(images.source.content(index)).digest()
        bar.advance()
