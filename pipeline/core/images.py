"""The images that every session takes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rexnet_export.pipeline.core.errors import DataError


def require_images(images: NDArray[np.generic], shape: tuple[int, int, int]) -> None:
    """DataError where these are not one or more uint8 images [n, H, W, C] of this height, width and channels."""
    if images.dtype != np.uint8 or images.shape[1:] != shape or not len(images):
        expected = ", ".join(map(str, shape))
        raise DataError(f"the model takes uint8 images [n, {expected}], got {images.dtype} {[*images.shape]}")
