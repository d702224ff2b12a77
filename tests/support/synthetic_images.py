"""Images that exist in memory alone, for training tests; importable by the processes a test starts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Blobs:
    """`count` random images of 40 x 40 pixels, labels 0 to `classes` - 1 in turn; the same for the same index."""

    count: int
    classes: int

    name = "blobs"

    def __len__(self) -> int:
        return self.count

    @property
    def ids(self) -> Sequence[str]:
        return [str(index) for index in range(self.count)]

    @property
    def labels(self) -> Sequence[int]:
        return [index % self.classes for index in range(self.count)]

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(f"class {index}" for index in range(self.classes))

    def content(self, index: int) -> bytes:
        return self.load(index).tobytes()

    def probe(self, index: int) -> None:
        pass

    def load(self, index: int) -> Image.Image:
        coarse = np.random.default_rng(index).integers(0, 256, (5, 5, 3), np.uint8)
        return Image.fromarray(coarse).resize((40, 40), Image.Resampling.BILINEAR)
