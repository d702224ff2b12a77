"""How noisy the logits of single images and classes are: what the SQNR over all of them hides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rexnet_export.pipeline.accuracy.class_accuracy import ClassAccuracy
from rexnet_export.pipeline.accuracy.compare import EQUAL
from rexnet_export.pipeline.accuracy.evaluate import Logits
from rexnet_export.pipeline.core.records import Count, Measurement, NotMeasured, Text

CLASS_DB = 6.0  # four times the noise that the median class has beside its signal
IMAGE_DB = 12.0  # sixteen times; single images spread more than classes do
HARMLESS_DB = 20.0  # from here on the noise is less than a tenth of the signal's size, however quiet others are
FEWEST = 3  # images of a class
LISTED = 3


@dataclass(frozen=True, kw_only=True)
class NoisyImage:
    """An image far noisier than the median one."""

    id: Text
    sqnr_db: float


@dataclass(frozen=True, kw_only=True)
class ImageNoise:
    """SQNR in dB of the logits of one image: the median over all, how many are far below it, and the worst of these."""

    median_db: float
    far_worse: Count
    worst: tuple[NoisyImage, ...]


def image_noise(reference: Logits, logits: Logits, ids: Sequence[str]) -> Measurement[ImageNoise]:
    """Of one file; images are far worse below 20 dB and more than 12 dB under the median."""
    levels = _levels(reference, logits)
    if not np.isfinite(levels).any():
        return EQUAL
    usual = float(np.median(levels[np.isfinite(levels)]))
    order = np.argsort(levels, kind="stable")
    far = [int(index) for index in order if levels[index] < min(usual - IMAGE_DB, HARMLESS_DB)]
    return ImageNoise(
        median_db=round(usual, 2),
        far_worse=len(far),
        worst=tuple(NoisyImage(id=ids[index], sqnr_db=round(float(levels[index]), 2)) for index in far[:LISTED]),
    )


def noisy_classes(classes: Sequence[ClassAccuracy], name: str) -> Iterator[tuple[int, float]]:
    """Classes of one file below 20 dB and more than 6 dB under its median class, with their level.

    By their place among `classes`: two may be called the same.
    """
    found = ((place, each.sqnr_db[name]) for place, each in enumerate(classes) if name in each.sqnr_db)
    levels = {place: level for place, level in found if not isinstance(level, NotMeasured)}
    if not levels:
        return
    usual = float(np.median(list(levels.values())))
    for place, level in levels.items():
        if level < min(usual - CLASS_DB, HARMLESS_DB) and classes[place].asked(name).n >= FEWEST:
            yield place, level


def _levels(reference: Logits, logits: Logits) -> NDArray[np.float64]:
    """SQNR in dB of each image; infinite where its logits are equal, not a number where the reference is silent."""
    signal = np.square(reference, dtype=np.float64).sum(1)
    noise = np.square(reference.astype(np.float64) - logits).sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        found: NDArray[np.float64] = 10 * np.log10(np.where(signal > 0, signal, np.nan) / noise)
    return found
