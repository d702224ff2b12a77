"""The channel configurations that the paper's section 4 searches: c_i = a f(i) + b under limits on cost.

f is piecewise linear over a random subset of the indices and never falls; a is the largest that the limits allow, so
that configurations differ in shape and not in cost. Straight lines are one draw among the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.random import Generator, default_rng
from numpy.typing import NDArray

from rexnet_export.apps.study.common.bottleneck_network import Plan, cost_of
from rexnet_export.apps.train.recipe import check
from rexnet_export.pipeline.core.errors import UsageError
from rexnet_export.pipeline.model.architecture import EXPANSION, Block
from rexnet_export.pipeline.model.rexnet import Cost

STEM = 16
PENULTIMATE = 256
FEWEST_CHANNELS = 8
MOST_CHANNELS = 4096
NEAR = 0.9  # of one limit: what a configuration must use
FLAT = 0.3  # probability that f does not rise between two of its points
MOST_MISSES = 500  # draws in a row that bring nothing new


@dataclass(frozen=True, kw_only=True)
class Space:
    """Networks of `blocks` inverted bottlenecks (t = 6) on images of `image_size`, halved at one and two thirds."""

    blocks: int
    parameters: int
    macs: int
    image_size: int
    classes: int

    def __post_init__(self) -> None:
        """Refuse what has no networks; see also `configurations`."""
        check("blocks", self.blocks, "from 3 to 64", allowed=3 <= self.blocks <= 64)
        check("parameters", self.parameters, "at least 1", allowed=self.parameters >= 1)
        check("macs", self.macs, "at least 1", allowed=self.macs >= 1)
        check("image-size", self.image_size, "from 8 to 1024", allowed=8 <= self.image_size <= 1024)


def plan_of(space: Space, channels: Sequence[int]) -> Plan:
    """The network whose blocks have these output channels."""
    halving = {space.blocks // 3, 2 * space.blocks // 3}
    return Plan(
        name="-".join(map(str, channels)),
        stem=STEM,
        stem_stride=1,
        blocks=tuple(
            Block(
                inputs=i,
                expands=True,
                expanded=EXPANSION * i,
                squeeze=0,
                outputs=o,
                stride=2 if index in halving else 1,
            )
            for index, (i, o) in enumerate(pairwise([STEM, *channels]))
        ),
        penultimate=PENULTIMATE,
        classes=space.classes,
    )


def cost(space: Space, channels: Sequence[int]) -> Cost:
    """Parameters and multiply-accumulates."""
    return cost_of(plan_of(space, channels), space.image_size)


def fits(space: Space, channels: Sequence[int]) -> bool:
    """Whether both limits are kept."""
    found = cost(space, channels)
    return found.parameters <= space.parameters and found.macs <= space.macs


def configurations(space: Space, count: int, seed: int) -> tuple[tuple[int, ...], ...]:
    """`count` different configurations near the limits, the same for the same seed."""
    check("configurations", count, "at least 1", allowed=count >= 1)
    smallest = cost(space, [FEWEST_CHANNELS] * space.blocks)
    if not fits(space, [FEWEST_CHANNELS] * space.blocks):
        raise UsageError(
            f"--parameters {space.parameters} and --macs {space.macs}: no configuration is so small; {space.blocks} "
            f"blocks of {FEWEST_CHANNELS} channels take {smallest.parameters} and {smallest.macs}; raise them or "
            "lower --blocks"
        )
    random, found = default_rng(seed), dict[tuple[int, ...], None]()
    missed = 0
    while missed < MOST_MISSES:
        channels = _draw(space, random)
        new = channels is not None and channels not in found
        missed = 0 if new else missed + 1
        if channels is not None:
            found[channels] = None
        if len(found) == count:
            return tuple(found)
    raise UsageError(
        f"--configurations {count}: only {len(found)} were found near --parameters {space.parameters} and --macs "
        f"{space.macs}; ask for fewer, or raise the limits"
    )


def _draw(space: Space, random: Generator) -> tuple[int, ...] | None:
    """One configuration, or None where it comes nowhere near a limit."""
    shape = _shape(space.blocks, random)
    low = FEWEST_CHANNELS * np.exp(random.uniform(0, np.log(16)))
    if not fits(space, _channels(shape, 0, low)):
        return None
    slopes = (0.0, float(MOST_CHANNELS))
    for _ in range(32):  # bisection: cost never falls with a
        middle = sum(slopes) / 2
        slopes = (middle, slopes[1]) if fits(space, _channels(shape, middle, low)) else (slopes[0], middle)
    channels = _channels(shape, slopes[0], low)
    used = cost(space, channels)
    near = used.parameters >= NEAR * space.parameters or used.macs >= NEAR * space.macs
    return channels if near and channels[0] < channels[-1] else None


def _shape(blocks: int, random: Generator) -> NDArray[np.float64]:
    """f(0) = 0 ... f(blocks - 1) = 1."""
    inner = random.permutation(np.arange(1, blocks - 1))[: random.integers(0, blocks - 1)]
    points = np.concatenate([[0], np.sort(inner), [blocks - 1]])
    rises = random.exponential(size=len(points) - 1) * (random.random(len(points) - 1) >= FLAT)
    if len(rises) == 1 or not rises.any():
        rises[-1] = 1.0
    values = np.concatenate([[0], np.cumsum(rises)])
    shape: NDArray[np.float64] = np.interp(np.arange(blocks), points, values / values[-1])
    return shape


def _channels(shape: NDArray[np.float64], slope: float, low: float) -> tuple[int, ...]:
    return tuple(round(value) for value in slope * shape + low)


def linearity(channels: Sequence[int]) -> float:
    """R squared of the straight line through the channels over their index: 1 is ReXNet's parameterization."""
    return float(np.corrcoef(np.arange(len(channels)), channels)[0, 1] ** 2)
