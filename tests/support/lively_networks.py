"""Random networks whose answers differ from image to image, and images that bring that out."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from rexnet_export.pipeline.core.records import Preprocess
from rexnet_export.pipeline.model.rexnet import ReXNet


def blotches(count: int, size: int, seed: int, channels: int = 3) -> NDArray[np.uint8]:
    """Images with large coloured areas, so that logits differ between them; uint8 [count, size, size, channels]."""
    coarse = torch.rand(count, channels, 4, 4, generator=torch.Generator().manual_seed(seed))
    smooth = functional.interpolate(coarse, (size, size), mode="bilinear") * 255
    return smooth.permute(0, 2, 3, 1).round().to(torch.uint8).contiguous().numpy()


def lively(network: ReXNet, preprocess: Preprocess) -> ReXNet:
    """Give every BatchNorm the statistics of some images, so that activations neither die nor explode."""
    images = blotches(16, preprocess.size, seed=1, channels=preprocess.channels)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (preprocess.mean, preprocess.std))
    network.train()
    for name, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the plain average of what was seen
            module.train(".se." not in name)  # pooled values hardly differ yet: normalising them amplifies noise
    with torch.no_grad():
        for _ in range(4):
            network((pixels - mean) / std)
    return network.eval()
