"""Small pictures of images, for pages."""

from __future__ import annotations

import io
from collections.abc import Iterable

from PIL import Image

from rexnet_export.pipeline.core.records import RGB
from rexnet_export.pipeline.data.decode import Picture
from rexnet_export.pipeline.data.sources import ImageSource

LARGEST, SMALLEST = 160, 96  # pixels of the longer side


def thumbnails(source: ImageSource, ids: Iterable[str]) -> dict[str, bytes]:
    """PNG by id; larger images are made smaller, and small ones larger without smoothing, so that pixels show."""
    wanted = set(ids)
    return {id_: _png(source.load(index)) for index, id_ in enumerate(source.ids) if id_ in wanted}


def _png(picture: Picture) -> bytes:
    image = picture if isinstance(picture, Image.Image) else _shown(picture)
    if max(image.size) > LARGEST:
        image.thumbnail((LARGEST, LARGEST))
    elif max(image.size) < SMALLEST:
        factor = -(-SMALLEST // max(image.size))
        image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    content = io.BytesIO()
    image.save(content, format="PNG", optimize=True)
    return content.getvalue()


def _shown(bands: tuple[Image.Image, ...]) -> Image.Image:
    """The first three channels as colours, or the first of two."""
    return Image.merge("RGB", bands[:RGB]) if len(bands) >= RGB else bands[0]
