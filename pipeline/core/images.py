"""The images that every session takes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rexnet_export.pipeline.core.errors import DataError


def require_images(images: NDArray[np.generic], size: tuple[int, int]) -> None:
    """DataError where these are not one or more uint8 images [n, H, W, 3] of this height and width."""
    height, width = size
    if images.dtype != np.uint8 or images.shape[1:] != (height, width, 3) or not len(images):
        raise DataError(f"the model takes uint8 images [n, {height}, {width}, 3], got {images.dtype} {[*images.shape]}")
