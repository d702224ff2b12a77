"""ReXNet in torch: one definition of ReXNetV1, ReXNet-lite and timm's rexnetr.

An `Architecture` is the complete list of channel counts; the network is built from it and from nothing
else, so what a checkpoint's shapes say and what the network is can be compared value by value.
Parameters carry timm's names (`stem.conv`, `features.3.conv_dw.bn`, `head.fc`).

Han et al., "Rethinking Channel Dimensions for Efficient Model Design", CVPR 2021 (arXiv 2007.00992), and the
authors' code (MIT, Copyright 2020-present NAVER Corp.). Channel rounding is Python's half-to-even `round`:
with half-up the published weights do not fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from rexnet_export.pipeline.core.records import Size

type Variant = Literal["v1", "lite", "r"]
VARIANTS: tuple[Variant, ...] = get_args(Variant.__value__)

STAGE_BLOCKS = (1, 2, 2, 3, 3, 5)
STAGE_STRIDES = (1, 2, 2, 2, 1, 2)
BLOCK_STRIDES = tuple(
    stride if position == 0 else 1
    for blocks, stride in zip(STAGE_BLOCKS, STAGE_STRIDES, strict=True)
    for position in range(blocks)
)
DEPTH = len(BLOCK_STRIDES)
EXPANSION = 6
FIRST_SQUEEZED_BLOCK = STAGE_BLOCKS[0] + STAGE_BLOCKS[1]
SQUEEZE_RATIO = 12
LITE_NECK = 1024
DROPOUT = 0.2


@dataclass(frozen=True, kw_only=True)
class Block:
    """Channel counts of one inverted bottleneck; `squeeze` 0 means no squeeze-excitation."""

    inputs: int
    expanded: int
    squeeze: int
    outputs: int
    stride: int

    @property
    def expands(self) -> bool:
        """Whether the block starts with a 1x1 expansion; only the first block (t = 1) does not."""
        return self.expanded != self.inputs

    @property
    def residual(self) -> bool:
        """Whether the input is added to the leading output channels."""
        return self.stride == 1 and self.inputs <= self.outputs


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Every channel count of one ReXNet."""

    variant: Variant
    width: float
    stem: int
    blocks: tuple[Block, ...]
    penultimate: int
    classes: int

    @property
    def name(self) -> str:
        """The model's usual name: `rexnet_100`, `rexnetr_130`, `rexnet_lite_100`; `_nose` without SE."""
        prefix = {"v1": "rexnet", "r": "rexnetr", "lite": "rexnet_lite"}[self.variant]
        plain = self.variant != "lite" and not self.squeezed
        return f"{prefix}_{round(self.width * 100):03d}" + ("_nose" if plain else "")

    @property
    def squeezed(self) -> bool:
        """Whether any block has squeeze-excitation."""
        return any(block.squeeze for block in self.blocks)


def architecture(
    variant: Variant = "v1", width: float = 1.0, *, classes: int = 1000, use_se: bool = True
) -> Architecture:
    """Channel counts of a ReXNet by variant and width multiplier (`lite` never has squeeze-excitation)."""
    if variant == "lite":
        return _lite(width, classes)
    divisor = 1 if variant == "v1" else rounding_divisor(width)
    base = 16 / width if width < 1 else 16.0
    stem_base = 32 / width if width < 1 else 32.0
    # Accumulated, not multiplied: the authors' float sums decide some of the half-to-even ties.
    outputs = []
    for _ in range(DEPTH):
        outputs.append(make_divisible(round(base * width), divisor))
        base += 180 / DEPTH
    stem = make_divisible(round(stem_base * width), divisor)
    expanded = _expanded_channels(stem, outputs, divisor)
    squeezes = [
        make_divisible(int(channels * (1.0 / SQUEEZE_RATIO)), divisor)
        if use_se and index >= FIRST_SQUEEZED_BLOCK
        else 0
        for index, channels in enumerate(expanded)
    ]
    penultimate = make_divisible(1280 * width, divisor)
    return _assemble(variant, width, stem, expanded, squeezes, outputs, penultimate, classes)


def _lite(width: float, classes: int) -> Architecture:
    # 164 / (n - 1): the authors' `n - 1 * 1.0` is 15 by precedence, and the published widths follow it.
    base = 16.0
    outputs = []
    for _ in range(DEPTH):
        outputs.append(make_divisible(round(base * width), 8))
        base += 164 / (DEPTH - 1)
    stem = make_divisible(round(32 * width), 8)
    expanded = _expanded_channels(stem, outputs, 1)
    penultimate = int(1280 * width) if width > 1 else 1280
    return _assemble("lite", width, stem, expanded, [0] * DEPTH, outputs, penultimate, classes)


def rounding_divisor(width: float) -> int:
    """What rexnetr's channel counts are multiples of: 16 at width 3.0 and above, 8 below (timm's choice)."""
    return 16 if width >= 3 else 8


def make_divisible(value: float, divisor: int) -> int:
    """The multiple of `divisor` nearest to `value`, at least `divisor` and never below 90 % of `value`."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def _expanded_channels(stem: int, outputs: list[int], divisor: int) -> list[int]:
    inputs = [stem, *outputs[:-1]]
    return [stem, *(make_divisible(channels * EXPANSION, divisor) for channels in inputs[1:])]


def _assemble(
    variant: Variant,
    width: float,
    stem: int,
    expanded: list[int],
    squeezes: list[int],
    outputs: list[int],
    penultimate: int,
    classes: int,
) -> Architecture:
    channels = zip(pairwise([stem, *outputs]), expanded, squeezes, BLOCK_STRIDES, strict=True)
    return Architecture(
        variant=variant,
        width=width,
        stem=stem,
        blocks=tuple(
            Block(inputs=inputs, expanded=wide, squeeze=squeeze, outputs=out, stride=stride)
            for (inputs, out), wide, squeeze, stride in channels
        ),
        penultimate=penultimate,
        classes=classes,
    )


class ConvBatchNorm(nn.Module):
    """Convolution without bias (unless asked), padded to keep the size at stride 1, and BatchNorm."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, *, stride: int = 1, groups: int = 1, bias: bool = False
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=bias)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] -> [N, outputs, H / stride, W / stride]."""
        normalized: Tensor = self.bn(self.conv(x))
        return normalized


class SqueezeExcite(nn.Module):
    """Channel gate from the pooled *signed* depthwise output, with BatchNorm inside."""

    def __init__(self, channels: int, squeeze: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, squeeze, 1)
        self.bn = nn.BatchNorm2d(squeeze)
        self.fc2 = nn.Conv2d(squeeze, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> the same shape, each channel scaled by a gate in (0, 1)."""
        pooled = x.mean((2, 3), keepdim=True)
        gate: Tensor = self.fc2(functional.relu(self.bn(self.fc1(pooled)))).sigmoid()
        return x * gate


class LinearBottleneck(nn.Module):
    """expand - activation - depthwise - [gate] - ReLU6 - project, plus the partial residual."""

    def __init__(self, block: Block, activation: type[nn.Module]) -> None:
        super().__init__()
        self.block = block
        if block.expands:
            self.conv_exp = ConvBatchNorm(block.inputs, block.expanded)
            self.act_exp = activation()
        self.conv_dw = ConvBatchNorm(block.expanded, block.expanded, 3, stride=block.stride, groups=block.expanded)
        if block.squeeze:
            self.se = SqueezeExcite(block.expanded, block.squeeze)
        self.conv_pwl = ConvBatchNorm(block.expanded, block.outputs)

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] -> [N, outputs, H / stride, W / stride]."""
        y = self.act_exp(self.conv_exp(x)) if self.block.expands else x
        y = self.conv_dw(y)
        if self.block.squeeze:
            y = self.se(y)
        y = self.conv_pwl(functional.relu6(y))
        if self.block.residual:
            # Out of place: the authors' `y[:, :c] += x` exports to slices and scatters.
            y = y + functional.pad(x, (0, 0, 0, 0, 0, self.block.outputs - self.block.inputs))
        result: Tensor = y
        return result


class Head(nn.Module):
    """Classifier on pooled features; ReXNet-lite has one more 1024-wide layer in front (`neck`)."""

    def __init__(self, spec: Architecture) -> None:
        super().__init__()
        features = spec.penultimate
        if spec.variant == "lite":
            self.neck = ConvBatchNorm(features, LITE_NECK, bias=True)
            features = LITE_NECK
        self.dropout = nn.Dropout(DROPOUT)
        self.fc = nn.Linear(features, spec.classes)

    def forward(self, pooled: Tensor) -> Tensor:
        """[N, C, 1, 1] -> logits [N, classes]."""
        if hasattr(self, "neck"):
            pooled = functional.relu6(self.neck(pooled))
        logits: Tensor = self.fc(self.dropout(pooled.flatten(1)))
        return logits


class ReXNet(nn.Module):
    """The network described by an `Architecture`; input normalised float32 NCHW, output logits."""

    def __init__(self, spec: Architecture) -> None:
        super().__init__()
        activation = nn.ReLU6 if spec.variant == "lite" else nn.SiLU
        self.spec = spec
        self.stem = ConvBatchNorm(3, spec.stem, 3, stride=2)
        self.act = activation()
        blocks = [LinearBottleneck(block, activation) for block in spec.blocks]
        self.features = nn.Sequential(*blocks, ConvBatchNorm(spec.blocks[-1].outputs, spec.penultimate))
        self.head = Head(spec)

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, S, S] normalised -> logits [N, classes]; S a multiple of 16."""
        x = self.act(self.features(self.act(self.stem(x))))
        logits: Tensor = self.head(x.mean((2, 3), keepdim=True))
        return logits


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Trainable parameters, and multiply-accumulates of one image."""

    parameters: int
    macs: int


def cost(spec: Architecture, size: Size = 224) -> Cost:
    """Count parameters, and multiply-accumulates of convolutions and the classifier on one image."""
    macs = 0

    def count(module: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal macs
        if isinstance(module, nn.Conv2d):
            macs += output[0].numel() * module.weight[0].numel()
        elif isinstance(module, nn.Linear):
            macs += module.weight.numel()

    network = ReXNet(spec).eval()
    for module in network.modules():
        module.register_forward_hook(count)
    with torch.inference_mode():
        network(torch.zeros(1, 3, *((size, size) if isinstance(size, int) else size)))
    return Cost(parameters=sum(p.numel() for p in network.parameters()), macs=macs)
