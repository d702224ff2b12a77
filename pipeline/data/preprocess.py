"""The one way an image becomes the network's input pixels, equal to timm's evaluation transform."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rexnet_export.pipeline.core.errors import DataError
from rexnet_export.pipeline.core.records import Preprocess


def resize_and_crop(image: Image.Image, preprocess: Preprocess) -> NDArray[np.uint8]:
    """RGB image of any size -> uint8 [S, S, 3], pixel for pixel what torchvision's Resize and CenterCrop give.

    The short side becomes `preprocess.resize`, the long side is truncated, and the crop's corner is rounded half
    to even, as in torchvision. EXIF rotation is not applied: timm and torchvision do not apply it either, and the
    published accuracies were measured that way.
    """
    width, height = _resized(image.size, preprocess.resize)
    if (width, height) != image.size:
        image = image.resize((width, height), Image.Resampling[preprocess.interpolation.upper()])
    left, top = round((width - preprocess.size) / 2), round((height - preprocess.size) / 2)
    return np.asarray(image.crop((left, top, left + preprocess.size, top + preprocess.size)))


def _resized(size: tuple[int, int], short: int) -> tuple[int, int]:
    """Width and height after the short side became `short`."""
    width, height = size
    long = int(short * max(size) / min(size))
    # A one-pixel-high panorama would grow to gigabytes only to be cropped.
    if short * long > (Image.MAX_IMAGE_PIXELS or short * long):
        raise DataError(f"{width} x {height} pixels, too elongated to resize to {short} on the short side")
    return (short, long) if width <= height else (long, short)
