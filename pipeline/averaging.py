"""What an optimizer treats how, and the averaged copy of the weights it trains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Decay weight matrices and kernels only: BatchNorm scales and biases are left alone."""
    kernels = [p for p in network.parameters() if p.ndim > 1]
    vectors = [p for p in network.parameters() if p.ndim <= 1]
    return [{"params": kernels, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]


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
