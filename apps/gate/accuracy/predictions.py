"""What networks chose, on which images: some of these where not all were asked about."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rexnet_export.pipeline.accuracy.places import Places

type Classes = NDArray[np.uint16]


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """The class that one network chose on each image [n], and with what probability [n], where that is known.

    `float_of` is the digest of the checkpoint whose weights the network has in float32; None for others. `places` [n]
    are the images that it was asked about, where not about all.
    """

    file: str
    sha256: str
    executed_by: str
    classes: Classes
    confidences: NDArray[np.float32] | None = None
    float_of: str | None = None
    places: Places | None = None

    def at(self, rows: Places, places: Places) -> Predictions:
        """Some of its answers, which are those to the images at `places`."""
        confidences = None if self.confidences is None else self.confidences[rows]
        return replace(self, classes=self.classes[rows], confidences=confidences, places=places)


@dataclass(frozen=True, kw_only=True)
class LabelledImages:
    """What was classified, into what: `sha256` is of ids and content in order, `labels` [n] index `class_names`."""

    name: str
    sha256: str
    class_names: tuple[str, ...]
    labels: Classes

    def asked(self, network: Predictions) -> Classes:
        """The labels of the images that a network was asked about."""
        return self.labels if network.places is None else self.labels[network.places]


def on_both(one: Predictions, other: Predictions, images: int) -> tuple[Predictions, Predictions]:
    """The same on those of so many images that both networks were asked about, which may be none."""
    if one.places is None and other.places is None:
        return one, other
    ours, theirs = (np.arange(images) if network.places is None else network.places for network in (one, other))
    both, rows, others = np.intersect1d(ours, theirs, assume_unique=True, return_indices=True)
    return one.at(rows, both), other.at(others, both)
