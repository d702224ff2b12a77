from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from random_networks import random_network

from rexnet_export.pipeline.core.records import Preprocess
from rexnet_export.pipeline.graph.float_graph import float_graph
from rexnet_export.pipeline.model.architecture import Variant
from rexnet_export.quantization.calibration.observe import observe
from rexnet_export.quantization.learned.logit_slopes import logit_slopes
from rexnet_export.quantization.scheme.scheme import decide, observed_tensors
from rexnet_export.quantization.table.table import Calibration

SIZE = 32


def calibrated(folder: Path, variant: Variant) -> SimpleNamespace:
    """A tiny network as `path` and `model`, its calibration `images`, `statistics`, `slopes` and `table`."""
    # A lite of any width would have more weights in its last layers than in all others together.
    network = random_network(variant, 0.25, penultimate=96 if variant == "lite" else None)
    model = float_graph(network, Preprocess(size=SIZE))
    onnx.helper.set_model_props(model, {"model": f"tiny {variant}", "labels": "[]"})
    path = folder / f"{variant}.onnx"
    path.write_bytes(model.SerializeToString(deterministic=True))
    images = np.random.default_rng(0).integers(0, 256, (12, SIZE, SIZE, 3), dtype=np.uint8)
    images[:6] //= 4
    statistics = observe(path, [images], observed_tensors(model))
    calibration = Calibration(images_sha256="0" * 64, images=len(images), statistic="min-max", seed=0)
    return SimpleNamespace(
        path=path,
        model=model,
        images=images,
        statistics=statistics,
        slopes=logit_slopes(model, statistics, images),
        table=decide(model, statistics, calibration),
    )


@pytest.fixture(scope="session")
def v1(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    return calibrated(tmp_path_factory.mktemp("v1"), "v1")


@pytest.fixture(scope="session")
def lite(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    return calibrated(tmp_path_factory.mktemp("lite"), "lite")


@pytest.fixture(scope="session", params=["v1", "lite"])
def either(request: pytest.FixtureRequest) -> SimpleNamespace:
    found: SimpleNamespace = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="session")
def r(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    return calibrated(tmp_path_factory.mktemp("r"), "r")
