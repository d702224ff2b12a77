"""Networks of inverted bottlenecks that are no ReXNet: a MobileNetV2 to compare with, and what a channel search tries.

Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional

from rexnet_export.pipeline.checkpoint.load import serialized
from rexnet_export.pipeline.checkpoint.metadata import parse_labels, parse_preprocess
from rexnet_export.pipeline.core.errors import CheckpointError, ConversionError
from rexnet_export.pipeline.core.records import Preprocess, write_whole
from rexnet_export.pipeline.core.strict_json import strict_loads
from rexnet_export.pipeline.model.architecture import EXPANSION, Block, make_divisible
from rexnet_export.pipeline.model.conv_batchnorm import ConvBatchNorm
from rexnet_export.pipeline.model.rexnet import Cost, LinearBottleneck

FORMAT = "rexnet-export bottleneck network"
MOST_PLAN = 2**18  # bytes: more than a thousand blocks
# Output channels, number of blocks and first stride of each stage (MobileNetV2, table 2).
MOBILENET_V2 = ((16, 1, 1), (24, 2, 2), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1))


@dataclass(frozen=True, kw_only=True)
class PlainBlock(Block):
    """An inverted bottleneck as MobileNetV2 has it: the shortcut is whole or there is none."""

    @property
    def residual(self) -> bool:
        """Whether the input is added to the output."""
        return self.stride == 1 and self.inputs == self.outputs


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Every channel count of one network of inverted bottlenecks with ReLU6; `stem_stride` 1 suits small images."""

    name: str
    stem: int
    stem_stride: int
    blocks: tuple[Block, ...]
    penultimate: int
    classes: int


class BottleneckNetwork(nn.Module):
    """Stem, inverted bottlenecks, 1x1 convolution, pooling and classifier; normalised NCHW images to logits."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan
        self.stem = ConvBatchNorm(3, plan.stem, 3, stride=plan.stem_stride)
        blocks = [LinearBottleneck(block, nn.ReLU6) for block in plan.blocks]
        self.features = nn.Sequential(*blocks, ConvBatchNorm(plan.blocks[-1].outputs, plan.penultimate))
        self.fc = nn.Linear(plan.penultimate, plan.classes)

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, S, S] normalised -> logits [N, classes]."""
        x = functional.relu6(self.features(functional.relu6(self.stem(x))))
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


def mobilenet_v2(width: float, classes: int) -> Plan:
    """MobileNetV2 by width multiplier, channels in multiples of 8."""
    stem = make_divisible(32 * width, 8)
    channels, strides = [stem], []
    for outputs, blocks, stride in MOBILENET_V2:
        channels += [make_divisible(outputs * width, 8)] * blocks
        strides += [stride] + [1] * (blocks - 1)
    expansions = [1] + [EXPANSION] * (len(strides) - 1)
    blocks_of = zip(pairwise(channels), strides, expansions, strict=True)
    return Plan(
        name=f"mobilenetv2_{round(width * 100):03d}",
        stem=stem,
        stem_stride=2,
        blocks=tuple(
            PlainBlock(inputs=i, expands=t > 1, expanded=i * t, squeeze=0, outputs=o, stride=s)
            for (i, o), s, t in blocks_of
        ),
        penultimate=make_divisible(1280 * max(1.0, width), 8),
        classes=classes,
    )


def mobilenet_v2_of(macs: int, image_size: int, classes: int) -> Plan:
    """The MobileNetV2, in hundredths of width, whose multiply-accumulates come nearest."""
    plans = (mobilenet_v2(hundredths / 100, classes) for hundredths in range(20, 301))
    return min(plans, key=lambda plan: abs(cost_of(plan, image_size).macs - macs))


def cost_of(plan: Plan, image_size: int) -> Cost:
    """Parameters, and multiply-accumulates of one image, by arithmetic alone."""
    pixels = -(-image_size // plan.stem_stride)
    macs = 27 * plan.stem * pixels**2
    parameters = 27 * plan.stem + 2 * plan.stem
    for block in plan.blocks:
        expand = block.inputs * block.expanded if block.expands else 0
        macs += expand * pixels**2
        pixels = -(-pixels // block.stride)
        macs += (9 * block.expanded + block.expanded * block.outputs) * pixels**2
        norms = 2 * (block.expanded * (2 if block.expands else 1) + block.outputs)
        parameters += expand + 9 * block.expanded + block.expanded * block.outputs + norms
    last = plan.blocks[-1].outputs * plan.penultimate
    classifier = plan.penultimate * plan.classes
    return Cost(
        parameters=parameters + last + 2 * plan.penultimate + classifier + plan.classes,
        macs=macs + last * pixels**2 + classifier,
    )


def save_network(path: Path, network: BottleneckNetwork, preprocess: Preprocess, labels: Sequence[str]) -> None:
    """Write plan, preprocessing, labels and weights, whole or not at all."""
    plan = {**asdict(network.plan), "plain": isinstance(network.plan.blocks[0], PlainBlock)}
    told = {"plan": plan, "preprocess": asdict(preprocess), "labels": list(labels)}
    metadata = {"format": FORMAT, **{key: json.dumps(value) for key, value in told.items()}}
    content = serialized(
        {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}, metadata
    )
    try:
        write_whole(path, content)
    except OSError as error:
        raise CheckpointError(f"cannot write {path}: {error.strerror}") from error


def is_saved_network(path: Path) -> bool:
    """Whether a file is one of `save_network`'s."""
    try:
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get("format") == FORMAT
    except (SafetensorError, OSError):
        return False


def load_network(path: Path) -> tuple[BottleneckNetwork, Preprocess, tuple[str, ...]]:
    """Read what `save_network` wrote, in eval mode."""
    try:
        with safe_open(path, framework="pt") as file:
            told = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        values: Any = strict_loads(told["plan"], MOST_PLAN)
        kind = PlainBlock if values.pop("plain") else Block
        plan = Plan(**{**values, "blocks": tuple(kind(**block) for block in values["blocks"])})
        with torch.device("meta"):
            network = BottleneckNetwork(plan)
        network.load_state_dict(tensors, assign=True)
        preprocess = parse_preprocess(strict_loads(told["preprocess"]), str(path))
        labels = parse_labels(strict_loads(told["labels"]), str(path))
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError, ConversionError) as error:
        raise CheckpointError(
            f"{path} is damaged or of another release ({type(error).__name__}): make it again"
        ) from error
    return network.eval(), preprocess, labels
