"""Training images: random crop, flip, RandAugment and erasing, decided by (seed, epoch, index) alone.

Because nothing else enters, the same run gives the same images for any number of loader processes, and a resumed
run goes on exactly where the killed one would have.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.random import Generator, default_rng
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from rexnet_export.apps.train.randaugment import rand_augment
from rexnet_export.apps.train.recipe import Augmentation
from rexnet_export.pipeline.core.records import Preprocess
from rexnet_export.pipeline.data.sources import ImageSource

CROP_ASPECT = (3 / 4, 4 / 3)
ERASED_AREA = (0.02, 1 / 3)


class TrainingImages(Dataset[tuple[Tensor, int]]):
    """Augmented uint8 [S, S, 3] images of one epoch with their labels."""

    def __init__(
        self, source: ImageSource, preprocess: Preprocess, augmentation: Augmentation, *, seed: int, epoch: int
    ) -> None:
        self._source = source
        self._preprocess = preprocess
        self._augmentation = augmentation
        self._key = (seed, epoch)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        labels = self._source.labels
        assert labels is not None, "training sources are opened with labels"
        rng = default_rng((*self._key, index))
        image = self._source.load(index)
        assert isinstance(image, Image.Image), "training sources are opened as photos"
        pixels = augment(image, self._preprocess, self._augmentation, rng)
        return torch.from_numpy(pixels), labels[index]


def augment(
    image: Image.Image, preprocess: Preprocess, augmentation: Augmentation, rng: Generator
) -> NDArray[np.uint8]:
    """Crop, mirror, augment and erase one RGB image -> uint8 [S, S, 3]."""
    height, width = preprocess.shape
    resample = Image.Resampling[preprocess.interpolation.upper()]
    box = random_box(image.size, augmentation.crop_area, rng)
    view = image.resize((width, height), resample, box=box)
    if rng.random() < augmentation.flip:
        view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if augmentation.randaugment:
        view = rand_augment(view, augmentation.randaugment, rng)
    pixels = np.array(view)
    if rng.random() < augmentation.erase:
        erase(pixels, rng)
    return pixels


def random_box(size: tuple[int, int], smallest_area: float, rng: Generator) -> tuple[float, float, float, float]:
    """A random (left, top, right, bottom) of at least `smallest_area` of the image, near its own aspect ratio."""
    width, height = size
    area = rng.uniform(smallest_area, 1.0)
    aspect = np.exp(rng.uniform(*np.log(CROP_ASPECT)))
    crop_width = min(1.0, np.sqrt(area * aspect)) * width
    crop_height = min(1.0, np.sqrt(area / aspect)) * height
    left = rng.uniform(0, width - crop_width)
    top = rng.uniform(0, height - crop_height)
    return left, top, left + crop_width, top + crop_height


def erase(pixels: NDArray[np.uint8], rng: Generator) -> None:
    """Overwrite a random rectangle with noise, in place (random erasing, Zhong et al. 2020)."""
    whole_height, whole_width, _ = pixels.shape
    area = rng.uniform(*ERASED_AREA) * whole_height * whole_width
    aspect = np.exp(rng.uniform(np.log(0.3), np.log(1 / 0.3)))
    height = min(whole_height, max(1, round(np.sqrt(area * aspect))))
    width = min(whole_width, max(1, round(np.sqrt(area / aspect))))
    top, left = rng.integers(0, whole_height - height + 1), rng.integers(0, whole_width - width + 1)
    pixels[top : top + height, left : left + width] = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
