"""Weights in fewer bits than they are computed in: INT8 for each output channel, or palettes of 16 numbers.

A palette serves a group of output channels, each scaled to its own largest weight first. Its numbers are those that
leave the least squared error, which in one dimension can be had exactly; so equal weights give equal palettes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rexnet_export.pipeline.core.records import Precision

type WeightForm = Literal["real", "integers", "palettes"]

FORMS: dict[Precision, WeightForm] = {"w8": "integers", "w4": "palettes"}
COLOURS = 16  # numbers of a palette: 4 bits tell them apart
GROUP = 16  # channels that share a palette, at least: more palettes are slower on devices, fewer are less exact
FEW = 2048  # values of a weight that gains nothing: a network's first layers lose most and weigh least


@dataclass(frozen=True, kw_only=True)
class Palettes:
    """A weight [out, ...] as `numbers` [groups, 16], the `indices` of its values in its group's, and the `scales` [out]
    that the numbers are multiplied with."""

    numbers: NDArray[np.float16]
    indices: NDArray[np.uint8]
    scales: NDArray[np.float16]


def palettes(weight: NDArray[np.floating]) -> Palettes | None:
    """The best palettes for a weight [out, ...]; None where it is too small to be worth it.

    A palette of fewer than 16 numbers ends in zeros.
    """
    if weight.size <= FEW:
        return None
    scales = channel_scales(weight)
    groups = np.split(scaled(weight, scales), group_count(len(weight)))
    found = [_palette(group) for group in groups]
    return Palettes(
        numbers=np.stack([numbers for numbers, _ in found]),
        indices=np.concatenate([indices for _, indices in found]),
        scales=scales,
    )


def channel_scales(weight: NDArray[np.floating]) -> NDArray[np.float16]:
    """The largest magnitude of each output channel, as a float16; 1 for a channel of nothing."""
    largest = np.abs(weight).max(axis=tuple(range(1, weight.ndim))).astype(np.float16)
    return np.where(largest == 0, np.float16(1), largest)


def scaled(weight: NDArray[np.floating], scales: NDArray[np.float16]) -> NDArray[np.float64]:
    """A weight [out, ...] with each output channel divided by its scale."""
    divided: NDArray[np.float64] = weight / scales.astype(np.float64).reshape(-1, *[1] * (weight.ndim - 1))
    return divided


def group_count(channels: int) -> int:
    """The most equal groups of at least `GROUP` channels; one where `channels` has no such divisor."""
    return max(
        count for count in range(1, channels + 1) if (channels % count == 0 and channels >= count * GROUP) or count == 1
    )


def _palette(group: NDArray[np.floating]) -> tuple[NDArray[np.float16], NDArray[np.uint8]]:
    import kmeans1d  # noqa: PLC0415 - native code, for this alone

    values = group.ravel()
    count = min(COLOURS, np.unique(values).size)
    palette = np.zeros(COLOURS, np.float16)
    palette[:count] = kmeans1d.cluster(values, count).centroids
    # Rounding a number to float16 may bring a value nearer to its neighbour.
    return palette, nearest(values, palette[:count]).reshape(group.shape)


def nearest(values: NDArray[np.floating], palette: NDArray[np.float16]) -> NDArray[np.uint8]:
    """The index of the number of `palette` that is nearest to each of `values` [n]."""
    apart = np.abs(values[:, None].astype(np.float64) - palette.astype(np.float64))
    indices: NDArray[np.uint8] = apart.argmin(axis=1).astype(np.uint8)
    return indices
