"""Which images of a source are used, and their labels in the model's order."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rexnet_export.pipeline.core.progress import Progress
from rexnet_export.pipeline.core.records import ModelCard
from rexnet_export.pipeline.data.sources import ImageSource, check_images, choose, match_labels


@dataclass(frozen=True, kw_only=True)
class Images:
    """Chosen images of one source; `labels` in the model's class order where the source is labelled.

    `remark` is a line on chosen images that could not be used.
    """

    source: ImageSource
    indices: tuple[int, ...]
    labels: NDArray[np.int64] | None
    remark: str | None = None


def labelled_images(
    source: ImageSource,
    card: ModelCard,
    count: int | None,
    seed: int,
    most_bad: int = 0,
    progress: Progress | None = None,
) -> Images:
    """`count` (or all) images of a labelled source, in its order, labels in the card's class order."""
    matched = match_labels(source, card.labels)
    indices = sorted(choose(matched, min(count or len(matched), len(matched)), seed))
    return checked(Images(source=matched, indices=tuple(indices), labels=None), most_bad, progress, labelled=True)


def checked(images: Images, most_bad: int = 0, progress: Progress | None = None, *, labelled: bool = False) -> Images:
    """Look at every image now, not after minutes of work: those that can be used, with their labels where asked for."""
    usable = check_images(images.source, images.indices, most_bad, progress)
    labels = np.asarray(images.source.labels, np.int64)[list(usable.indices)] if labelled else None
    return replace(images, indices=usable.indices, labels=labels, remark=usable.remark)
