"""BatchNorm over the images of all processes on CPU, where torch's own SyncBatchNorm has no kernel.

Mean and variance are those of the global batch, and gradients flow through them into every process's images, so that
several processes train what one process would.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn


class _SumOverProcesses(torch.autograd.Function):
    """The sum of a tensor over all processes; each one's loss depends on it, so gradients are summed as well."""

    @staticmethod
    def forward(_: Any, local: Tensor) -> Tensor:  # noqa: ANN401 - torch's context
        total = local.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:  # noqa: ANN401 - torch's context
        total = gradient.clone()
        distributed.all_reduce(total)
        return total


class GlobalBatchNorm(nn.BatchNorm2d):
    """BatchNorm2d that in training uses the statistics of all processes' images, equally many each."""

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> the same shape."""
        if not self.training:
            return super().forward(x)
        count = x.numel() // x.shape[1] * distributed.get_world_size()
        mean = _summed(x) / count
        variance = _summed((x - mean[:, None, None]).square()) / count
        self._follow(mean.detach(), variance.detach() * count / (count - 1))
        scale = self.weight * (variance + self.eps).rsqrt()
        return (x - mean[:, None, None]) * scale[:, None, None] + self.bias[:, None, None]

    @torch.no_grad()
    def _follow(self, mean: Tensor, unbiased_variance: Tensor) -> None:
        """The running statistics of `nn.BatchNorm2d`."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None, "no network here keeps a plain average"
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(unbiased_variance, self.momentum)


def synchronise(network: nn.Module) -> None:
    """Make every BatchNorm2d of the network a `GlobalBatchNorm`, in place; parameters stay the same ones."""
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = GlobalBatchNorm


def _summed(x: Tensor) -> Tensor:
    summed: Tensor = _SumOverProcesses.apply(x.sum((0, 2, 3)))
    return summed
