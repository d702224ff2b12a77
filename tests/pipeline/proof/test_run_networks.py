"""Running a reference and files on the same images: what is compared with what."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from rexnet_export.pipeline.accuracy import evaluate
from rexnet_export.pipeline.accuracy.compare import TensorComparison, Trace
from rexnet_export.pipeline.core.progress import Silent
from rexnet_export.pipeline.core.records import NotMeasured, Preprocess
from rexnet_export.pipeline.data.selection import Images
from rexnet_export.pipeline.data.sources import bundled
from rexnet_export.pipeline.proof import run_networks as module

PREPROCESS = Preprocess(size=32, crop_ratio=1.0)


@dataclass
class Fake:
    """Two numbers of an image's mean, `louder` times; counts the batches it ran."""

    executed_by: str
    louder: float = 1.0
    timed: bool = False
    batches: int = 0

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self.outputs(images)["logits"]

    def trace(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        return self.outputs(images)

    def outputs(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        self.batches += 1
        mean = images.reshape(len(images), -1).mean(1, dtype=np.float32)
        return {"logits": np.stack([mean, -mean], 1) * np.float32(self.louder)}


@pytest.fixture
def images() -> Images:
    return Images(source=bundled("evaluation"), indices=tuple(range(2 * evaluate.BATCH)), labels=None)


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many batches were compared."""
    calls: list[int] = []

    class Counted(TensorComparison):
        def add(self, reference: Trace, other: Trace) -> None:
            calls.append(1)
            super().add(reference, other)

    monkeypatch.setattr(module, "TensorComparison", Counted)
    return calls


def test_the_reference_is_not_compared_with_itself(images: Images, compared: list[int]) -> None:
    runs = module.run_networks(Fake("torch"), {"ort": Fake("ort", louder=1.5)}, images, PREPROCESS, Silent())
    assert len(compared) == 2
    assert runs["reference"].outputs == ()
    (logits,) = runs["ort"].outputs
    assert logits.sqnr_db == pytest.approx(20 * math.log10(2))


def test_the_reference_stands_for_a_file_that_is_the_same(images: Images, compared: list[int]) -> None:
    reference, twin = Fake("torch"), Fake("torch")
    runs = module.run_networks(reference, {"gpu": twin}, images, PREPROCESS, Silent())
    assert (reference.batches, twin.batches) == (3, 1)
    assert len(compared) == 2
    (logits,) = runs["gpu"].outputs
    assert (logits.largest, logits.values) == (0, 2 * 2 * evaluate.BATCH)
    assert isinstance(logits.sqnr_db, NotMeasured)
    assert runs["gpu"] is runs["reference"]


@pytest.mark.parametrize("reference", ["torch", "ort, whose parity was proven before"])
def test_another_runtime_is_no_twin(reference: str, images: Images) -> None:
    """Nor a file that a runtime optimizes, beside the graph that the same runtime was held to before."""
    other = Fake("ort")
    module.run_networks(Fake(reference), {"ort": other}, images, PREPROCESS, Silent())
    assert other.batches == 2
