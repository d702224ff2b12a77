"""The ReXNet family counted from its definition, and one network layer by layer (the seed's Table 8)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from rexnet_export.pipeline.core.outputs import LOGITS
from rexnet_export.pipeline.model.architecture import Architecture, architecture
from rexnet_export.pipeline.model.conv_batchnorm import ConvBatchNorm
from rexnet_export.pipeline.model.published import FAMILY, PublishedModel
from rexnet_export.pipeline.model.rexnet import Cost, LinearBottleneck, ReXNet, cost


@dataclass(frozen=True, kw_only=True)
class Member:
    """One network of the family: its channel counts, its cost as counted here, and what was published about it."""

    spec: Architecture
    cost: Cost
    published: PublishedModel


@dataclass(frozen=True, kw_only=True)
class Row:
    """One layer: operator, input [channels, pixels, pixels], what it does, and its share of the cost."""

    layer: str
    operator: str
    channels_in: int
    pixels_in: int
    expanded: int
    channels_out: int
    stride: int
    squeeze: int
    residual: bool
    cost: Cost


@cache
def family() -> tuple[Member, ...]:
    """Every published width and variant; tensors without memory, so that the widest takes no longer than the rest."""
    members = []
    with torch.device("meta"):
        for published in FAMILY:
            spec = architecture(published.variant, published.width)
            members.append(Member(spec=spec, cost=cost(spec, published.pixels), published=published))
    return tuple(members)


def layers(spec: Architecture, image_size: int = 224) -> tuple[Row, ...]:
    """What each layer of the network really is, from one image's pass through it."""
    rows: list[Row] = []
    macs: dict[nn.Module, int] = {}

    def count(module: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d | nn.Linear)
        each = output[0].numel() if isinstance(module, nn.Conv2d) else 1
        weight = module.weight[0] if isinstance(module, nn.Conv2d) else module.weight
        macs[module] = each * weight.numel()

    def describe(name: str, module: nn.Module, x: Tensor, given: Tensor | dict[str, Tensor]) -> None:
        y = given[LOGITS] if isinstance(given, dict) else given  # a head gives its outputs by name
        inside = [m for m in module.modules() if m in macs]
        total = Cost(parameters=sum(p.numel() for p in module.parameters()), macs=sum(macs[m] for m in inside))
        rows.append(_row(name, module, x, y, total))

    with torch.device("meta"):
        network = ReXNet(spec).eval()
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.register_forward_hook(count)
        named = [("stem", network.stem), *((f"features.{n}", m) for n, m in enumerate(network.features))]
        named.append(("head", network.head))
        for name, module in named:
            module.register_forward_hook(lambda m, x, y, name=name: describe(name, m, x[0], y))
        with torch.inference_mode():
            network(torch.zeros(1, 3, image_size, image_size))
    return tuple(rows)


def _row(name: str, module: nn.Module, x: Tensor, y: Tensor, total: Cost) -> Row:
    block = module.block if isinstance(module, LinearBottleneck) else None
    if block:
        operator = "bottleneck 3x3"
    elif isinstance(module, ConvBatchNorm):
        operator = "conv {}x{}".format(*module.conv.kernel_size)
    else:
        operator = "average pool, fully connected"
    return Row(
        layer=name,
        operator=operator,
        channels_in=x.shape[1],
        pixels_in=x.shape[2],
        expanded=block.expanded if block else 0,
        channels_out=y.shape[1],
        stride=module.conv.stride[0] if isinstance(module, ConvBatchNorm) else block.stride if block else 1,
        squeeze=block.squeeze if block else 0,
        residual=block.residual if block else False,
        cost=total,
    )
