"""Which ReXNet it is: the complete list of its channel counts, and the rules that give those of published networks.

Han et al., "Rethinking Channel Dimensions for Efficient Model Design", CVPR 2021 (arXiv 2007.00992), and the
authors' code (MIT, Copyright 2020-present NAVER Corp.). Channel rounding is Python's half-to-even `round`:
with half-up the published weights do not fit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

from rexnet_export.pipeline.core.records import Activation
from rexnet_export.pipeline.model.head import OtherHead

type Variant = Literal["v1", "lite", "r"]
VARIANTS: tuple[Variant, ...] = get_args(Variant.__value__)

STAGE_STRIDES = (1, 2, 2, 2, 1, 2)
EXPANSION = 6
SQUEEZE_RATIO = 12


@dataclass(frozen=True, kw_only=True)
class Stages:
    """How many blocks each of a network's six stages has."""

    blocks: tuple[int, ...] = (1, 2, 2, 3, 3, 5)

    @property
    def total(self) -> int:
        """The network's blocks."""
        return sum(self.blocks)

    @property
    def unexpanded(self) -> int:
        """The first stage's blocks, which have no 1x1 expansion."""
        return self.blocks[0]

    @property
    def unsqueezed(self) -> int:
        """The first two stages' blocks, which never have squeeze-excitation."""
        return self.blocks[0] + self.blocks[1]

    @property
    def strides(self) -> tuple[int, ...]:
        """Of every block: a stage's first one may halve the resolution."""
        return tuple(
            stride if position == 0 else 1
            for blocks, stride in zip(self.blocks, STAGE_STRIDES, strict=True)
            for position in range(blocks)
        )


PUBLISHED = Stages()


def stages_at(depth: float) -> Stages:
    """Of a network with the depth multiplier `depth` (timm's and the authors' `depth_mult`)."""
    return Stages(blocks=tuple(math.ceil(blocks * depth) for blocks in PUBLISHED.blocks))


@dataclass(frozen=True, kw_only=True)
class Block:
    """Channel counts of one inverted bottleneck; `squeeze` 0 means no squeeze-excitation.

    `expands` says whether it starts with a 1x1 expansion, as all but those of the first stage (t = 1) do. Channel
    counts do not tell: a pruned expansion may give as many channels as it gets.
    """

    inputs: int
    expands: bool
    expanded: int
    squeeze: int
    outputs: int
    stride: int

    @property
    def residual(self) -> bool:
        """Whether the input is added to the leading output channels."""
        return self.stride == 1 and self.inputs <= self.outputs


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Every channel count of one ReXNet.

    Its head is one linear layer, unless `hidden` layers stand in front of that, each followed by `activation`, or
    there are `others`, with the same activation. `channels` are the image's. `custom` channels of the blocks are those
    of no width, as pruning leaves them: variant and width are then the nearest's.
    """

    variant: Variant
    width: float
    stem: int
    blocks: tuple[Block, ...]
    penultimate: int
    classes: int
    hidden: tuple[int, ...] = ()
    activation: Activation = "none"
    others: tuple[OtherHead, ...] = ()
    channels: int = 3
    custom: bool = False

    @property
    def plain(self) -> bool:
        """Whether the head is one linear layer, as published."""
        return not self.hidden and not self.others

    @property
    def published_depth(self) -> bool:
        """Whether there are as many blocks as in a published network."""
        return len(self.blocks) == PUBLISHED.total

    @property
    def strides(self) -> str:
        """Of every block, for people and files."""
        return " ".join(str(block.stride) for block in self.blocks)

    @property
    def name(self) -> str:
        """The model's usual name: `rexnet_100`, `rexnetr_130`, `rexnet_lite_100`; `_nose` without SE, or `_custom`."""
        prefix = {"v1": "rexnet", "r": "rexnetr", "lite": "rexnet_lite"}[self.variant]
        plain = self.variant != "lite" and not self.squeezed
        return f"{prefix}_{round(self.width * 100):03d}" + "_nose" * plain + "_custom" * self.custom

    @property
    def squeezed(self) -> bool:
        """Whether any block has squeeze-excitation."""
        return any(block.squeeze for block in self.blocks)


def architecture(
    variant: Variant = "v1",
    width: float = 1.0,
    *,
    classes: int = 1000,
    use_se: bool = True,
    stages: Stages = PUBLISHED,
) -> Architecture:
    """Channel counts of a ReXNet by variant, width multiplier and depth (`lite` never has squeeze-excitation)."""
    if variant == "lite":
        return _lite(width, classes, stages)
    divisor = 1 if variant == "v1" else rounding_divisor(width)
    base = 16 / width if width < 1 else 16.0
    stem_base = 32 / width if width < 1 else 32.0
    # Accumulated, not multiplied: the authors' float sums decide some of the half-to-even ties.
    outputs = []
    for _ in range(stages.total):
        outputs.append(make_divisible(round(base * width), divisor))
        base += 180 / stages.total
    stem = make_divisible(round(stem_base * width), divisor)
    expanded = _expanded_channels(stem, outputs, divisor, stages)
    squeezes = [
        make_divisible(int(channels * (1.0 / SQUEEZE_RATIO)), divisor) if use_se and index >= stages.unsqueezed else 0
        for index, channels in enumerate(expanded)
    ]
    return Architecture(
        variant=variant,
        width=width,
        stem=stem,
        blocks=_blocks(stem, expanded, squeezes, outputs, stages),
        penultimate=make_divisible(1280 * width, divisor),
        classes=classes,
    )


def _lite(width: float, classes: int, stages: Stages) -> Architecture:
    # 164 / (n - 1): the authors' `n - 1 * 1.0` is 15 by precedence, and the published widths follow it.
    base = 16.0
    outputs = []
    for _ in range(stages.total):
        outputs.append(make_divisible(round(base * width), 8))
        base += 164 / (stages.total - 1)
    stem = make_divisible(round(32 * width), 8)
    expanded = _expanded_channels(stem, outputs, 1, stages)
    return Architecture(
        variant="lite",
        width=width,
        stem=stem,
        blocks=_blocks(stem, expanded, [0] * stages.total, outputs, stages),
        penultimate=int(1280 * width) if width > 1 else 1280,
        classes=classes,
    )


def rounding_divisor(width: float) -> int:
    """What rexnetr's channel counts are multiples of: 16 at width 3.0 and above, 8 below (timm's choice)."""
    return 16 if width >= 3 else 8


def make_divisible(value: float, divisor: int) -> int:
    """The multiple of `divisor` nearest to `value`, at least `divisor` and never below 90 % of `value`."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def _expanded_channels(stem: int, outputs: list[int], divisor: int, stages: Stages) -> list[int]:
    inputs = [stem, *outputs[:-1]]
    return [
        channels if index < stages.unexpanded else make_divisible(channels * EXPANSION, divisor)
        for index, channels in enumerate(inputs)
    ]


def _blocks(
    stem: int, expanded: list[int], squeezes: list[int], outputs: list[int], stages: Stages
) -> tuple[Block, ...]:
    channels = zip(pairwise([stem, *outputs]), expanded, squeezes, stages.strides, strict=True)
    return tuple(
        Block(
            inputs=inputs,
            expands=index >= stages.unexpanded,
            expanded=wide,
            squeeze=squeeze,
            outputs=out,
            stride=stride,
        )
        for index, ((inputs, out), wide, squeeze, stride) in enumerate(channels)
    )
