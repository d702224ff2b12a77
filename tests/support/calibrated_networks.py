"""Tiny networks with images and the quantization table they give."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
from depths import SHORT
from numpy.typing import NDArray
from random_networks import random_network

from rexnet_export.pipeline.core.records import Preprocess
from rexnet_export.pipeline.graph.float_graph import float_graph
from rexnet_export.pipeline.model.architecture import Stages, Variant
from rexnet_export.quantization.calibration.observe import observe
from rexnet_export.quantization.scheme.scheme import decide, observed_tensors
from rexnet_export.quantization.table.rewrites import Rewrite
from rexnet_export.quantization.table.table import Calibration, QuantTable

PREPROCESS = Preprocess(size=32)


def calibrated_network(variant: Variant, stages: Stages = SHORT) -> SimpleNamespace:
    """A seeded random `network`, its float `model`, `images` uint8 [12, 32, 32, 3] and `table`.

    A lite of any width would have more weights in its last layers than in all others together.
    """
    network = random_network(variant, 0.25, penultimate=96 if variant == "lite" else None, stages=stages)
    model = float_graph(network, PREPROCESS)
    images = np.random.default_rng(0).integers(0, 256, (12, PREPROCESS.size, PREPROCESS.size, 3), dtype=np.uint8)
    images[:6] //= 4
    return SimpleNamespace(
        network=network, model=model, images=images, table=table_of(model, images), preprocess=PREPROCESS
    )


def table_of(model: onnx.ModelProto, images: NDArray[np.uint8], rewrites: tuple[Rewrite, ...] = ()) -> QuantTable:
    """The min-max table of a float model, which `rewrites` have made."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "float.onnx"
        onnx.save(model, path)
        statistics = observe(path, [images], observed_tensors(model))
    calibration = Calibration(images_sha256="0" * 64, images=len(images), statistic="min-max", seed=0)
    return replace(decide(model, statistics, calibration), rewrites=rewrites)
