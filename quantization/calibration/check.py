"""What is wrong with a set of calibration images, in one-line warnings with numbers; none means nothing was found."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from rexnet_export.pipeline.core.records import Preprocess
from rexnet_export.quantization.calibration.observe import TensorStatistics
from rexnet_export.quantization.calibration.statistic_names import percent_kept

FEW_IMAGES = 32
MOST_DUPLICATES = 0.05
FARTHEST_MEAN = 1.5  # in standard deviations of the training images
SPREADS = (0.3, 3.0)
PIXEL_MAX = 255


def check_images(images: NDArray[np.uint8], ids: Sequence[str], preprocess: Preprocess) -> list[str]:
    """Warnings about the images [N, S, S, 3] themselves: how many, repeated, blank, unlike the training images."""
    return [
        *_count(len(images)),
        *_duplicates(images, ids),
        *_blank(images, ids),
        *_unlike_training(images, preprocess),
    ]


def check_statistics(found: Mapping[str, TensorStatistics], statistics: Mapping[str, str]) -> list[str]:
    """Warn of tensors that never change and of percentiles that the observed values are too few for."""
    constant = [name for name, seen in found.items() if seen.minimum == seen.maximum]
    undropped = [name for name, statistic in statistics.items() if _too_few(found[name], statistic)]
    warnings = []
    if constant:
        warnings.append(f"{len(constant)} tensors have one value on all calibration images, first {constant[0]}")
    if undropped:
        name = undropped[0]
        warnings.append(
            f"{len(undropped)} tensors have too few values for their percentile, first {name}: {statistics[name]} of "
            f"{int(found[name].counts.sum())} values drops none, so it is min-max; give more images"
        )
    return warnings


def _count(images: int) -> list[str]:
    if images == 1:
        return ["INT8 ranges come from one single image: whatever it lacks will be clipped; give a few hundred"]
    if images < FEW_IMAGES:
        return [f"INT8 ranges come from {images} images only; give a few hundred like those the model will see"]
    return []


def _duplicates(images: NDArray[np.uint8], ids: Sequence[str]) -> list[str]:
    digests = [hashlib.sha256(image.tobytes()).digest() for image in images]
    counts = Counter(digests)
    repeated = len(digests) - len(counts)
    if repeated == 0 or repeated < MOST_DUPLICATES * len(digests):
        return []
    if len(counts) == 1:
        return [f"all {len(images)} calibration images are the same picture ({ids[0]}): they count as one"]
    (most, times), *_ = counts.most_common()
    named = ids[digests.index(most)]
    return [f"{repeated} of {len(images)} calibration images repeat others; {named} is there {times} times"]


def _blank(images: NDArray[np.uint8], ids: Sequence[str]) -> list[str]:
    """Images of one colour: broken files and closed shutters."""
    flat = images.reshape(len(images), -1, images.shape[-1])
    blank = np.flatnonzero((flat == flat[:, :1]).all(axis=(1, 2)))
    if not len(blank):
        return []
    colour = "black" if not flat[blank].any() else "of one colour"
    return [f"{len(blank)} of {len(images)} calibration images are {colour}, first {ids[blank[0]]}"]


def _unlike_training(images: NDArray[np.uint8], preprocess: Preprocess) -> list[str]:
    """Normalised training images have mean 0 and standard deviation 1 in every channel; near-by images nearly so."""
    pixels = images.reshape(-1, preprocess.channels)
    # By histogram, not by a float copy of all the images.
    counts = np.stack([np.bincount(channel, minlength=PIXEL_MAX + 1) for channel in pixels.T])
    levels = (np.arange(PIXEL_MAX + 1) / PIXEL_MAX - np.array(preprocess.mean)[:, None]) / np.array(preprocess.std)[
        :, None
    ]
    shares = counts / len(pixels)
    means = (shares * levels).sum(axis=1)
    spreads = np.sqrt((shares * (levels - means[:, None]) ** 2).sum(axis=1))
    warnings = []
    if np.abs(means).max() > FARTHEST_MEAN:
        warnings.append(
            f"the calibration images' channel means are {_listed(means)} after normalisation, where training images "
            "have 0: check that they are like those the model was trained on, and the checkpoint's mean and std"
        )
    if spreads.min() < SPREADS[0] or spreads.max() > SPREADS[1]:
        warnings.append(
            f"the calibration images' channels spread by {_listed(spreads)} after normalisation, where training images "
            "have 1: check that they are like those the model was trained on, and the checkpoint's mean and std"
        )
    return warnings


def _listed(values: NDArray[np.float64]) -> str:
    return ", ".join(f"{value:.2f}" for value in values)


def _too_few(found: TensorStatistics, statistic: str) -> bool:
    kept = percent_kept(statistic)
    return kept is not None and kept < 100.0 and int(found.counts.sum() * (100.0 - kept) / 200.0) == 0
