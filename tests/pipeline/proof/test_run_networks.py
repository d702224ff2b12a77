"""Running a reference and files on the same images: what is compared with what."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from weakref import WeakSet

import numpy as np
import pytest
from numpy.typing import NDArray

from rexnet_export.pipeline.accuracy import evaluate
from rexnet_export.pipeline.accuracy.compare import TensorComparison, Trace
from rexnet_export.pipeline.core.progress import Silent, Step, Told
from rexnet_export.pipeline.core.records import NotMeasured, Preprocess
from rexnet_export.pipeline.data.selection import Images
from rexnet_export.pipeline.data.sources import bundled
from rexnet_export.pipeline.proof import run_networks as module
from rexnet_export.pipeline.proof.network import Network, held

PREPROCESS = Preprocess(size=32, crop_ratio=1.0)


@dataclass(eq=False)
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
    runs = module.run_networks(Fake("torch"), {"ort": held(Fake("ort", louder=1.5))}, images, PREPROCESS, Silent())
    assert len(compared) == 2
    assert runs["reference"].outputs == ()
    (logits,) = runs["ort"].outputs
    assert logits.sqnr_db == pytest.approx(20 * math.log10(2))


def test_the_reference_stands_for_a_file_that_is_the_same(images: Images, compared: list[int]) -> None:
    reference, twin, told = Fake("torch"), Fake("torch"), list[Step]()
    runs = module.run_networks(reference, {"gpu": held(twin)}, images, PREPROCESS, Told(told.append))
    assert {step.stage for step in told} == {"running the network"}
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
    told: list[Step] = []
    module.run_networks(Fake(reference), {"ort": held(other)}, images, PREPROCESS, Told(told.append))
    assert other.batches == 2
    assert {step.stage for step in told} == {"running 2 networks"}


@dataclass(eq=False)
class Counted(Fake):
    """Notes how many of its kind are open whenever it runs."""

    alive: WeakSet[Fake] | None = None
    most: list[int] | None = None

    def outputs(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        assert self.alive is not None
        assert self.most is not None
        self.most.append(len(self.alive))
        return super().outputs(images)


class Opened:
    """Networks of which it counts those that are open."""

    def __init__(self) -> None:
        self.alive: WeakSet[Fake] = WeakSet()
        self.most: list[int] = []
        self.names: list[str] = []

    def networks(self, names: str) -> Mapping[str, Network]:
        return {
            name: Network(open=lambda name=name, louder=louder: self._open(name, louder), executed_by=name)  # type: ignore[misc]
            for louder, name in enumerate(names, 1)
        }

    def _open(self, name: str, louder: float) -> Fake:
        session = Counted(name, louder, alive=self.alive, most=self.most)
        self.alive.add(session)
        self.names.append(name)
        return session


def given(run: module.RunImages, networks: Mapping[str, Network], images: Images) -> dict[str, list[list[float]]]:
    """Every batch of every network."""
    found: dict[str, list[list[float]]] = {name: [] for name in networks}
    for name, outputs in run(networks, images, PREPROCESS):
        found[name].append(outputs["logits"].ravel().tolist())
    return found


def test_one_network_is_open_at_a_time_and_gives_what_it_gives_beside_others(images: Images) -> None:
    images, opened = replace(images, indices=tuple(range(150))), Opened()
    alone = given(module.one_by_one, opened.networks("abc"), images)
    assert (set(opened.most), opened.names, len(opened.alive)) == ({1}, ["a", "b", "c"], 0)
    assert [len(batch) for batch in alone["c"]] == [128, 128, 44]
    assert alone == given(module.run_here, opened.networks("abc"), images)
    assert max(opened.most) == 3


@pytest.mark.parametrize(("room", "turns"), [(3, 1), (2, 2), (1, 3), (0.5, 3)])
def test_pixels_are_held_for_as_many_batches_as_there_is_room(
    room: float, turns: int, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HELD", int(room * 64 * 32 * 32 * 3))
    opened = Opened()
    found = given(module.one_by_one, opened.networks("ab"), replace(images, indices=tuple(range(150))))
    assert opened.names == ["a", "b"] * turns
    assert [len(batch) for batch in found["b"]] == [128, 128, 44]
