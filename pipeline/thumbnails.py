"""Small pictures of images, for pages."""

from __future__ import annotations

import io
from collections.abc import Iterable

from PIL import Image

from rexnet_export.pipeline.inputs import Images

LARGEST, SMALLEST = 160, 96  # pixels of the longer side


def thumbnails(images: Images, ids: Iterable[str]) -> dict[str, bytes]:
    """PNG by id; larger images are made smaller, and small ones larger without smoothing, so that pixels show."""
    wanted = set(ids)
    places = {images.source.ids[index]: index for index in images.indices if images.source.ids[index] in wanted}
    return {id_: _png(images.source.load(index)) for id_, index in places.items()}


def _png(image: Image.Image) -> bytes:
    if max(image.size) > LARGEST:
        image.thumbnail((LARGEST, LARGEST))
    elif max(image.size) < SMALLEST:
        factor = -(-SMALLEST // max(image.size))
        image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    content = io.BytesIO()
    image.save(content, format="PNG", optimize=True)
    return content.getvalue()
