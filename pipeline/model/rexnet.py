"""ReXNet in torch: one definition of ReXNetV1, ReXNet-lite and timm's rexnetr.

An `Architecture` is the complete list of channel counts; the network is built from it and from nothing
else, so what a checkpoint's shapes say and what the network is can be compared value by value.
Parameters carry timm's names (`stem.conv`, `features.3.conv_dw.bn`, `head.fc`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from rexnet_export.pipeline.core.outputs import LOGITS
from rexnet_export.pipeline.core.records import Size
from rexnet_export.pipeline.model.architecture import Architecture, Block
from rexnet_export.pipeline.model.conv_batchnorm import ConvBatchNorm
from rexnet_export.pipeline.model.head import Head

LITE_NECK = 1024


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
        self.act_dw = nn.ReLU6()
        self.conv_pwl = ConvBatchNorm(block.expanded, block.outputs)

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] -> [N, outputs, H / stride, W / stride]."""
        y = self.act_exp(self.conv_exp(x)) if self.block.expands else x
        y = self.conv_dw(y)
        if self.block.squeeze:
            y = self.se(y)
        y = self.conv_pwl(self.act_dw(y))
        if self.block.residual:
            # Out of place: the authors' `y[:, :c] += x` exports to slices and scatters.
            y = y + functional.pad(x, (0, 0, 0, 0, 0, self.block.outputs - self.block.inputs))
        result: Tensor = y
        return result


class ReXNet(nn.Module):
    """The network described by an `Architecture`; input normalised float32 NCHW, output logits."""

    def __init__(self, spec: Architecture) -> None:
        super().__init__()
        activation = nn.ReLU6 if spec.variant == "lite" else nn.SiLU
        self.spec = spec
        self.stem = ConvBatchNorm(spec.channels, spec.stem, 3, stride=2)
        self.act = activation()
        blocks = [LinearBottleneck(block, activation) for block in spec.blocks]
        self.features = nn.Sequential(*blocks, ConvBatchNorm(spec.blocks[-1].outputs, spec.penultimate))
        self.head = _head(spec)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, S, S] normalised -> logits [N, classes]; S a multiple of 16."""
        return self.outputs(x)[LOGITS]

    def outputs(self, x: Tensor) -> dict[str, Tensor]:
        """The same with the outputs of all heads, by ONNX tensor name."""
        x = self.act(self.features(self.act(self.stem(x))))
        found: dict[str, Tensor] = self.head(x.mean((2, 3), keepdim=True))
        return found


def _head(spec: Architecture) -> Head:
    """ReXNet-lite has one more layer of 1,024 in front of its classifier."""
    neck = ConvBatchNorm(spec.penultimate, LITE_NECK, bias=True) if spec.variant == "lite" else None
    features = spec.penultimate if neck is None else LITE_NECK
    return Head(features, spec.classes, spec.hidden, spec.activation, spec.others, neck)


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
        network(torch.zeros(1, spec.channels, *((size, size) if isinstance(size, int) else size)))
    return Cost(parameters=sum(p.numel() for p in network.parameters()), macs=macs)
