"""Pixels as the network takes them."""

from __future__ import annotations

import torch
from torch import Tensor

from rexnet_export.pipeline.core.records import Preprocess


class Normalize:
    """uint8 [N, S, S, C] pixels -> normalised float32 NCHW in channels_last on the device."""

    def __init__(self, preprocess: Preprocess, device: torch.device) -> None:
        self._device = device
        self._mean = 255 * torch.tensor(preprocess.mean, device=device).view(1, -1, 1, 1)
        self._std = 255 * torch.tensor(preprocess.std, device=device).view(1, -1, 1, 1)

    def __call__(self, pixels: Tensor) -> Tensor:
        """NHWC memory seen as NCHW already is channels_last."""
        x = pixels.to(self._device, non_blocking=True).permute(0, 3, 1, 2).float()
        return (x - self._mean) / self._std
