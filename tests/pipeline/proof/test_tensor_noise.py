from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from depths import SHORT
from numpy.typing import NDArray
from random_networks import random_network

from rexnet_export.pipeline.core.progress import Silent
from rexnet_export.pipeline.core.records import ModelCard, NotMeasured, Preprocess
from rexnet_export.pipeline.data.selection import Images
from rexnet_export.pipeline.data.sources import bundled
from rexnet_export.pipeline.graph.float_graph import write_float_onnx
from rexnet_export.pipeline.graph.float_tracer import FloatTracer, float_trace
from rexnet_export.pipeline.proof.network import held
from rexnet_export.pipeline.proof.tensor_noise import OPAQUE, TensorNoise, tensor_noise

IMAGES = 4

LOUDER = "features.3.expand"
CARD = ModelCard(
    name="small",
    labels=tuple("abcdefghij"),
    preprocess=Preprocess(size=32, crop_ratio=1.0),
    checkpoint_sha256="0" * 64,
)


@dataclass(frozen=True)
class Louder:
    """The float network with one tensor a tenth larger; `only` limits what it shows."""

    tracer: FloatTracer
    only: str | None = None
    executed_by: str = "a fake"
    timed: bool = False

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self.tracer.run(images)

    def outputs(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        return {"logits": self.run(images)}

    def trace(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        assert len(images) == 1
        found = self.tracer.trace(images)
        found[LOUDER] = found[LOUDER] * np.float32(1.1)
        return {name: values for name, values in found.items() if self.only in {None, name}}


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("layers") / "float.onnx"
    return write_float_onnx(random_network("v1", 0.5, stages=SHORT), CARD, path).path


@pytest.fixture(scope="module")
def images() -> Images:
    return Images(source=bundled("evaluation"), indices=tuple(range(2 * IMAGES)), labels=None)


def test_noise_is_told_of_the_tensor_that_has_it(graph: Path, images: Images) -> None:
    (found,) = tensor_noise(
        graph, {"ort": held(Louder(float_trace(graph)))}, images, CARD.preprocess, Silent()
    ).values()
    assert not isinstance(found, NotMeasured)
    noisy = [tensor for tensor in found if not isinstance(tensor.sqnr_db, NotMeasured)]
    assert noisy == [TensorNoise(tensor=LOUDER, sqnr_db=pytest.approx(20.0, abs=0.01))]
    assert [tensor.tensor for tensor in found] == list(float_trace(graph).tensors)


def test_a_runtime_that_shows_only_logits_has_no_layers(graph: Path, images: Images) -> None:
    found = tensor_noise(
        graph, {"it": held(Louder(float_trace(graph), only="logits"))}, images, CARD.preprocess, Silent()
    )
    assert found == {"it": OPAQUE}


def test_nothing_is_traced_without_artifacts(tmp_path: Path, images: Images) -> None:
    assert tensor_noise(tmp_path / "none.onnx", {}, images, CARD.preprocess, Silent()) == {}
