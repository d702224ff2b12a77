"""A network small enough to be exported in seconds, and the flags that keep its images few."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from depths import SHORT

from rexnet_export.pipeline.checkpoint.load import save_checkpoint
from rexnet_export.pipeline.core.records import Preprocess
from rexnet_export.pipeline.data.sources import bundled
from rexnet_export.pipeline.model.architecture import architecture
from rexnet_export.pipeline.model.rexnet import ReXNet

FEW = ("--effort", "fast", "--calibration-images", "16", "--eval-images", "48")


def small_checkpoint(path: Path, seed: int = 0) -> Path:
    """A network with the bundled labels, saved at `path`; random, but its BatchNorm has seen images."""
    torch.manual_seed(seed)
    network = ReXNet(architecture(width=0.5, classes=10, stages=SHORT))
    source = bundled("calibration")
    pixels = np.stack([np.asarray(source.load(index).resize((32, 32))) for index in range(64)])
    with torch.no_grad():
        network.train()
        for _ in range(20):
            network(torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - 0.5)
    save_checkpoint(
        path,
        network.eval(),
        labels=source.class_names,
        preprocess=Preprocess(size=32, crop_ratio=1.0, mean=(0.5, 0.5, 0.5), std=(1.0, 1.0, 1.0)),
        metadata={},
        half=False,
    )
    return path
