"""Which images of a source are used, and their labels in the model's order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rexnet_export.pipeline.core.records import ModelCard
from rexnet_export.pipeline.data.sources import ImageSource, check_images, choose, match_labels


@dataclass(frozen=True, kw_only=True)
class Images:
    """Chosen images of one source; `labels` in the model's class order where the source is labelled."""

    source: ImageSource
    indices: tuple[int, ...]
    labels: NDArray[np.int64] | None


def labelled_images(source: ImageSource, card: ModelCard, count: int | None, seed: int) -> Images:
    """`count` (or all) images of a labelled source, in its order, labels in the card's class order."""
    matched = match_labels(source, card.labels)
    indices = sorted(choose(matched, min(count or len(matched), len(matched)), seed))
    labels = np.asarray(matched.labels, np.int64)[indices]
    return checked(Images(source=matched, indices=tuple(indices), labels=labels))


def checked(images: Images) -> Images:
    """Name every file that is no image now, not after minutes of work."""
    check_images(images.source, images.indices)
    return images
