"""Photos that are stored turned: EXIF says how to show them upright, and neither training loaders nor we do so."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

from PIL import Image

from rexnet_export.pipeline.data.sources import ImageSource

FIRST = 128  # images that are looked at
ORIENTATION, UPRIGHT = 0x0112, 1
MARKS = (b"eXIf", b"Raw profile type exif", b"XML:com.adobe.xmp")  # of what a PNG says of its orientation
FORMATS = ("JPEG", "PNG", "WEBP")  # of TIFF and HEIC Pillow turns the pixels itself


def turned(source: ImageSource, indices: Sequence[int], role: str) -> str | None:
    """One line on chosen images that are to be shown otherwise than they are stored; None where there are none."""
    names = turned_names(source, indices)
    if not names:
        return None
    return (
        f"{len(names)} of the first {len(indices[:FIRST])} {role} images are stored turned (EXIF orientation) and "
        "taken as stored, as timm and torchvision do: an app that turns photos upright shows the network other pixels, "
        "so turn them before you train and export"
    )


def turned_names(source: ImageSource, indices: Sequence[int]) -> list[str]:
    """Those of the first chosen images that are to be shown otherwise than they are stored."""
    return [source.ids[index] for index in indices[:FIRST] if _is_turned(source, index)]


def _is_turned(source: ImageSource, index: int) -> bool:
    try:
        content = source.content(index)
        with Image.open(BytesIO(content), formats=FORMATS) as image:
            return _exif(image, content).get(ORIENTATION, UPRIGHT) not in {0, UPRIGHT}
    except Exception:  # noqa: BLE001 - of no such format, or with damaged EXIF: what it shows is asked elsewhere
        return False


def _exif(image: Image.Image, content: bytes) -> Image.Exif:
    """Of PNG without decoding it, as Pillow does to find what stands behind the pixels, unless something may."""
    pixels = content.find(b"IDAT")
    if image.format == "PNG" and all(content.find(mark, pixels) < 0 for mark in MARKS):
        return Image.Image.getexif(image)
    return image.getexif()
