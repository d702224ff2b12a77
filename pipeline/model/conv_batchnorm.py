"""A convolution and its BatchNorm: what most of the network is made of."""

from __future__ import annotations

from torch import Tensor, nn


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
