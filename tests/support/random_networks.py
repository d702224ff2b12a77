"""Small networks of every variant with random weights."""

from __future__ import annotations

from dataclasses import replace

import torch

from rexnet_export.pipeline.model.architecture import PUBLISHED, Stages, Variant, architecture
from rexnet_export.pipeline.model.rexnet import ReXNet


def random_network(
    variant: Variant,
    width: float,
    *,
    use_se: bool = True,
    penultimate: int | None = None,
    stages: Stages = PUBLISHED,
) -> ReXNet:
    """Seeded, with BatchNorm statistics that keep the signal alive; with so many channels before the classifier."""
    torch.manual_seed(0)
    spec = architecture(variant, width, classes=10, use_se=use_se, stages=stages)
    network = ReXNet(replace(spec, penultimate=penultimate or spec.penultimate)).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0.0, 0.3)
            torch.nn.init.normal_(module.running_mean, 0.0, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network
