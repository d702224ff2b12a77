"""Networks whose tensors all differ, and what tests of checkpoints do with them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from rexnet_export.pipeline.model.architecture import architecture
from rexnet_export.pipeline.model.rexnet import ReXNet


def randomized[Network: nn.Module](network: Network, seed: int = 0) -> Network:
    """Every tensor different from every other, so that no swap of two goes unseen, and no layer an identity."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in network.state_dict().items():
        if name.endswith("running_var") or (name.endswith("weight") and tensor.ndim == 1):
            tensor.uniform_(0.5, 1.5, generator=generator)
        elif name.endswith(("running_mean", "bias")):
            tensor.normal_(0, 0.1, generator=generator)
        elif tensor.is_floating_point():
            tensor.normal_(0, tensor[0].numel() ** -0.5, generator=generator)
    return network.eval()


@cache
def _tiny_state(width: float, seed: int) -> dict[str, Tensor]:
    return randomized(ReXNet(architecture(width=width, classes=4)), seed).state_dict()


def tiny(width: float = 0.1, seed: int = 0) -> ReXNet:
    """A network of four classes; what is done to it is done to no other."""
    with torch.device("meta"):
        network = ReXNet(architecture(width=width, classes=4))
    network.load_state_dict({name: tensor.clone() for name, tensor in _tiny_state(width, seed).items()}, assign=True)
    return network.eval()


def written(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def same_state(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)
