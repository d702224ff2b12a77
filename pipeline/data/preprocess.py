"""The one way an image becomes the network's input pixels, equal to timm's evaluation transform."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from rexnet_export.pipeline.core.errors import DataError
from rexnet_export.pipeline.core.records import Preprocess


def resize_and_crop(image: Image.Image, preprocess: Preprocess) -> NDArray[np.uint8]:
    """RGB image of any size -> uint8 [S, S, 3], pixel for pixel what timm's evaluation transform gives.

    The crop's corner is rounded half to even, as in torchvision. EXIF rotation is not applied: timm and torchvision do
    not apply it either, and the published accuracies were measured that way.
    """
    size = _resized(image.size, preprocess)
    if size != image.size:
        image = image.resize(size, Image.Resampling[preprocess.interpolation.upper()])
    if preprocess.crop_mode == "border":
        image = _bordered(image, preprocess)
    left, top = round((image.width - preprocess.size) / 2), round((image.height - preprocess.size) / 2)
    return np.asarray(image.crop((left, top, left + preprocess.size, top + preprocess.size)))


def _resized(size: tuple[int, int], preprocess: Preprocess) -> tuple[int, int]:
    """Width and height before cropping."""
    (width, height), side = size, preprocess.resize
    match preprocess.crop_mode:
        case "squash":
            resized = side, side
        case "border":
            ratio = max(width / side, height / side)
            resized = round(width / ratio), round(height / ratio)
        case "center":
            long = int(side * max(size) / min(size))  # torchvision truncates
            resized = (side, long) if width <= height else (long, side)
    # A one-pixel-high panorama would grow to gigabytes only to be cropped, or shrink to nothing.
    if not 0 < resized[0] * resized[1] <= (Image.MAX_IMAGE_PIXELS or math.inf):
        raise DataError(f"{width} x {height} pixels, too elongated to resize to {side} ({preprocess.crop_mode})")
    return resized


def border_colour(preprocess: Preprocess) -> tuple[int, int, int]:
    """The mean colour in bytes."""
    red, green, blue = (min(255, max(0, round(255 * value))) for value in preprocess.mean)
    return red, green, blue


def _bordered(image: Image.Image, preprocess: Preprocess) -> Image.Image:
    """The image with the mean colour around it where it is smaller than the crop, the odd pixel right and below."""
    right, down = (max(0, preprocess.size - side) for side in image.size)
    if not right and not down:
        return image
    around = (right // 2, down // 2, right - right // 2, down - down // 2)
    return ImageOps.expand(image, around, border_colour(preprocess))
