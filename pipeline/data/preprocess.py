"""The one way an image becomes the network's input pixels, equal to timm's evaluation transform."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from rexnet_export.pipeline.core.errors import DataError
from rexnet_export.pipeline.core.records import Preprocess
from rexnet_export.pipeline.data.decode import Picture


def resize_and_crop(picture: Picture, preprocess: Preprocess) -> NDArray[np.uint8]:
    """RGB image of any size -> uint8 [H, W, 3], pixel for pixel what timm's evaluation transform gives.

    The crop's corner is rounded half to even, as in torchvision. EXIF rotation is not applied: timm and torchvision do
    not apply it either, and the published accuracies were measured that way. Other channels are treated one by one,
    which for PIL's 8 bit arithmetic is the same: [H, W, C].
    """
    if isinstance(picture, Image.Image):
        return _fitted(picture, preprocess, border_colour(preprocess))
    bands = zip(picture, border_colour(preprocess), strict=True)
    return np.stack([_fitted(band, preprocess, border) for band, border in bands], axis=2)


def _fitted(image: Image.Image, preprocess: Preprocess, border: int | tuple[int, ...]) -> NDArray[np.uint8]:
    size = _resized(image.size, preprocess)
    if size != image.size:
        image = image.resize(size, Image.Resampling[preprocess.interpolation.upper()])
    if preprocess.crop_mode == "border":
        image = _bordered(image, preprocess, border)
    height, width = preprocess.shape
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return np.asarray(image.crop((left, top, left + width, top + height)))


def _resized(size: tuple[int, int], preprocess: Preprocess) -> tuple[int, int]:
    """Width and height before cropping."""
    (width, height), (down, across) = size, preprocess.resize
    if preprocess.crop_mode == "squash":
        resized = across, down
    elif preprocess.crop_mode == "center" and across == down:
        long = int(across * max(size) / min(size))  # torchvision truncates, where timm's own resize rounds
        resized = (across, long) if width <= height else (long, across)
    else:
        fit = max if preprocess.crop_mode == "border" else min
        ratio = fit(height / down, width / across)
        resized = round(width / ratio), round(height / ratio)
    # A one-pixel-high panorama would grow to gigabytes only to be cropped, or shrink to nothing.
    if not 0 < resized[0] * resized[1] <= (Image.MAX_IMAGE_PIXELS or math.inf):
        mode = preprocess.crop_mode
        raise DataError(f"{width} x {height} pixels, too elongated to resize to {across} x {down} ({mode})")
    return resized


def border_colour(preprocess: Preprocess) -> tuple[int, ...]:
    """The mean colour in bytes."""
    return tuple(min(255, max(0, round(255 * value))) for value in preprocess.mean)


def _bordered(image: Image.Image, preprocess: Preprocess, border: int | tuple[int, ...]) -> Image.Image:
    """The image with the mean colour around it where it is smaller than the crop, the odd pixel right and below."""
    height, width = preprocess.shape
    right, down = max(0, width - image.width), max(0, height - image.height)
    if not right and not down:
        return image
    around = (right // 2, down // 2, right - right // 2, down - down // 2)
    return ImageOps.expand(image, around, border)
