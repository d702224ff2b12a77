"""Tiny networks with images and the quantization table they give."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
from random_networks import random_network

from rexnet_export.pipeline.graph import float_graph
from rexnet_export.pipeline.records import Preprocess
from rexnet_export.pipeline.rexnet import Variant
from rexnet_export.quantization.observe import observe
from rexnet_export.quantization.scheme import decide, observed_tensors
from rexnet_export.quantization.table import Calibration

PREPROCESS = Preprocess(size=32)


def calibrated_network(variant: Variant) -> SimpleNamespace:
    """A seeded random `network`, its float `model`, `images` uint8 [12, 32, 32, 3] and `table`."""
    network = random_network(variant, 0.25)
    model = float_graph(network, PREPROCESS)
    images = np.random.default_rng(0).integers(0, 256, (12, PREPROCESS.size, PREPROCESS.size, 3), dtype=np.uint8)
    images[:6] //= 4
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "float.onnx"
        onnx.save(model, path)
        statistics = observe(path, [images], observed_tensors(model))
    calibration = Calibration(images_sha256="0" * 64, images=len(images), statistic="min-max", seed=0)
    return SimpleNamespace(
        network=network, model=model, images=images, table=decide(model, statistics, calibration), preprocess=PREPROCESS
    )
