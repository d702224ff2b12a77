"""What an optimizer treats how, and the averaged copy of the weights it trains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

HEAD, FEATURES = "head.", "features."


def parameter_groups(network: nn.Module, weight_decay: float, layer_decay: float = 1.0) -> list[dict[str, Any]]:
    """Decay weight matrices and kernels only: BatchNorm scales and biases are left alone.

    `scale` is what a group's learning rate is multiplied by: `layer_decay` once for every layer between it and the
    head, blocks counting as one.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        scale = layer_decay ** _below_head(name, network) if layer_decay < 1 else 1.0
        groups.setdefault((scale, weight_decay if parameter.ndim > 1 else 0.0), []).append(parameter)
    ordered = sorted(groups, key=lambda key: (-key[0], -key[1]))
    return [{"params": groups[key], "scale": key[0], "weight_decay": key[1]} for key in ordered]


def _below_head(name: str, network: nn.Module) -> int:
    """How many layers a parameter of a ReXNet lies below the head: the last convolution one, the stem furthest."""
    layers = len(list(network.get_submodule(FEATURES.rstrip(".")).children()))
    if name.startswith(HEAD):
        return 0
    return layers - int(name.split(".")[1]) if name.startswith(FEATURES) else layers + 1


type AverageFunction = Callable[[Any, Any, Any], None]


def averaging(decay: float) -> AverageFunction:
    """Exponential moving average whose decay grows from 0.1, so that early epochs are not lost in the start weights."""

    @torch.no_grad()
    def update(averaged: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
        seen = float(count)
        weight = 1 - min(decay, (1 + seen) / (10 + seen))
        for old, new in zip(averaged, current, strict=True):
            if old.is_floating_point():
                old.lerp_(new, weight)
            else:
                old.copy_(new)

    return update
