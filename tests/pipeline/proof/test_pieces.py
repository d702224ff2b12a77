"""Images in pieces: whatever they are cut into, what comes back is what one process gives, to the bit."""

from __future__ import annotations

import socket
import sys
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from piece_workers import Copies
from small_disk import on_small_disk

from rexnet_export.apps.shared.trials.outcome import Failed
from rexnet_export.pipeline.artifact.target import Target
from rexnet_export.pipeline.core.errors import ConversionError, DeviceError
from rexnet_export.pipeline.core.progress import Silent
from rexnet_export.pipeline.core.records import Artifact, Preprocess, stored_file
from rexnet_export.pipeline.data.selection import Images
from rexnet_export.pipeline.data.sources import bundled
from rexnet_export.pipeline.proof import pieces
from rexnet_export.pipeline.proof.network import held, of_file
from rexnet_export.pipeline.proof.run_networks import run_here, run_networks

PREPROCESS = Preprocess(size=32, crop_ratio=1.0)


@dataclass
class Fake:
    """Its answers to an image depend on its batch and on torch's threads, and it may stop at a batch of so many."""

    executed_by: str
    louder: float = 1.0
    stops_at: int | None = None
    timed: bool = False
    emulated: bool = True
    batches: list[int] = field(default_factory=list)

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self.outputs(images)["logits"]

    def trace(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        return self.outputs(images)

    def outputs(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        self.batches.append(len(images))
        if len(images) == self.stops_at:
            raise ConversionError(f"{self.executed_by} stopped in the model")
        mean = images.reshape(len(images), -1).mean(1, dtype=np.float32)
        others = np.full_like(mean, images.mean() / 3 + torch.get_num_threads())
        return {"logits": np.stack([mean, -mean, others], 1) * np.float32(self.louder)}


@dataclass
class FakeTarget:
    """Its file says what executes it, and how loud it is."""

    name: str = "fake"
    stops_at: int | None = None
    opened: list[str] = field(default_factory=list)

    def open(self, artifact: Artifact) -> Fake:
        path = artifact.file.path
        self.opened.append(path.name)
        said = (path / "said" if path.is_dir() else path).read_text(encoding="utf-8")
        executed_by, louder = said.split()
        return Fake(executed_by, float(louder), self.stops_at)


def artifact(path: Path, said: str) -> Artifact:
    """A file; a folder where its name ends so."""
    if path.suffix == ".mlpackage":
        path.mkdir()
    (path / "said" if path.is_dir() else path).write_text(said, encoding="utf-8")
    return Artifact(target="fake", precision="fp32", file=stored_file(path))


@pytest.fixture
def files(tmp_path: Path) -> dict[str, tuple[Target, Artifact]]:
    """Two files of a target, one of them a folder, in the trial's own place."""
    there = tmp_path / "trial"
    there.mkdir()
    one, other = artifact(there / "a.ort", "ort 1.5"), artifact(there / "b.mlpackage", "coreml 0.7")
    return {"ort": (FakeTarget(), one), "coreml": (FakeTarget(), other)}  # type: ignore[dict-item]


def first(count: int) -> Images:
    return Images(source=bundled("evaluation"), indices=tuple(range(count)), labels=None)


@pytest.mark.parametrize(
    ("count", "piece", "sizes"),
    [
        (150, 64, [64, 64, 22]),  # the last batch is odd
        (150, 128, [128, 22]),
        (129, 64, [64, 64, 1]),
        (65, 64, [64, 1]),
        (64, 64, []),  # one piece is run here
        (3, 64, []),
    ],
)
def test_pieces_give_what_one_process_gives(
    files: dict[str, tuple[Target, Artifact]],
    monkeypatch: pytest.MonkeyPatch,
    count: int,
    piece: int,
    sizes: list[int],
) -> None:
    monkeypatch.setattr(pieces, "PIECE", piece)
    networks = {name: of_file(target, file) for name, (target, file) in files.items()}
    whole = run_networks(Fake("torch"), networks, first(count), PREPROCESS, Silent())
    workers = Copies()
    spread = pieces.in_pieces(workers, {}, files)
    found = run_networks(Fake("torch"), networks, first(count), PREPROCESS, Silent(), spread)
    assert workers.sizes == sizes
    assert list(found) == list(whole) == ["reference", "ort", "coreml"]
    for name, run in found.items():
        assert run.answers.tobytes() == whole[name].answers.tobytes()
        assert run.outputs == whole[name].outputs


def test_files_without_the_reference_go_in_pieces_too(
    files: dict[str, tuple[Target, Artifact]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As what is emulated is run; graphs that are not run do not travel."""
    monkeypatch.setattr(pieces, "PIECE", 64)
    networks = {name: of_file(target, file) for name, (target, file) in files.items()}
    unread = stored_file(artifact(tmp_path / "no.onnx", "x 1").file.path)
    workers = Copies()
    spread = pieces.in_pieces(workers, {"float": unread}, files)
    found = [(name, given["logits"].tolist()) for name, given in spread(networks, first(150), PREPROCESS)]
    here = [(name, given["logits"].tolist()) for name, given in run_here(networks, first(150), PREPROCESS)]
    assert workers.sizes == [64, 64, 22]
    assert found == here


def test_what_is_cut_is_all_there_in_order() -> None:
    assert pieces.cut(range(5), 2) == [(0, 1), (2, 3), (4,)]
    assert pieces.cut((7, 3, 5), 1) == [(7,), (3,), (5,)]
    assert pieces.cut((7, 3), 9) == [(7, 3)]
    assert pieces.cut((), 9) == []


def test_a_piece_is_a_whole_number_of_batches() -> None:
    reference = Fake("torch")
    run_networks(reference, {}, first(pieces.PIECE), PREPROCESS, Silent())
    assert set(reference.batches) == {64}


def test_where_nobody_is_idle_all_is_run_here(
    files: dict[str, tuple[Target, Artifact]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "PIECE", 64)
    workers, reference = Copies(free=False), Fake("torch")
    run_networks(reference, {}, first(150), PREPROCESS, Silent(), pieces.in_pieces(workers, {}, files))
    assert workers.sizes == []
    assert reference.batches == [64, 64, 22]


def test_a_file_that_is_the_reference_is_not_run_in_pieces_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "PIECE", 64)
    twin = FakeTarget(), artifact(tmp_path / "twin", "torch 1.0")
    given = pieces.in_pieces(Copies(), {}, {"gpu": twin})  # type: ignore[dict-item]
    runs = run_networks(Fake("torch"), {"gpu": held(Fake("torch"))}, first(70), PREPROCESS, Silent(), given)
    assert runs["gpu"] is runs["reference"]


def test_a_piece_that_fails_is_the_failure_of_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE", 64)
    stops = FakeTarget(stops_at=22), artifact(tmp_path / "a.ort", "ort 1.5")
    workers = Copies()
    given = pieces.in_pieces(workers, {}, {"ort": stops})  # type: ignore[dict-item]
    with pytest.raises(ConversionError, match=r"^ort stopped in the model$"):
        run_networks(Fake("torch"), {"ort": held(Fake("ort"))}, first(150), PREPROCESS, Silent(), given)
    assert workers.sizes == [64, 64, 22]


@pytest.fixture
def work(files: dict[str, tuple[Target, Artifact]]) -> pieces.Work:
    return pieces.Work(
        reference=Fake("torch"),
        graphs={},
        files=files,
        archive=pieces._packed([file.file for _, file in files.values()]),
        executed_by={"reference": "torch", "ort": "ort", "coreml": "coreml"},
        threads=1,
        images=first(0),
        preprocess=PREPROCESS,
    )


def test_a_piece_opens_each_file_once_also_an_emulated_one(work: pieces.Work) -> None:
    pieces.run_piece(work, (0, 1))
    opened = [target.opened for target, _ in work.files.values()]  # type: ignore[attr-defined]
    assert opened == [["a.ort"], ["b.mlpackage"]]


def test_torch_has_as_many_threads_as_in_the_trial_and_its_own_afterwards(work: pieces.Work) -> None:
    before = torch.get_num_threads()
    one, three = (pieces.run_piece(replace(work, threads=count), (0, 1))[0][1]["logits"] for count in (1, 3))
    assert np.all(three[:, 2] - one[:, 2] == 2)
    assert torch.get_num_threads() == before


def test_torch_has_so_many_threads_where_opening_a_file_loads_it(
    work: pieces.Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(*given: Any) -> Any:  # noqa: ANN401
        monkeypatch.setitem(sys.modules, "torch", torch)
        return really(*given)

    really, wanted = pieces._opened, pieces.run_piece(replace(work, threads=3), (0, 1))[0][1]["logits"]
    monkeypatch.setattr(pieces, "_opened", opened)
    monkeypatch.delitem(sys.modules, "torch")
    found = pieces.run_piece(replace(work, threads=3), (0, 1))[0][1]["logits"]
    np.testing.assert_array_equal(found, wanted)


def test_another_runtime_is_refused(work: pieces.Work) -> None:
    other = replace(work, executed_by={**work.executed_by, "ort": "ort-2"})
    with pytest.raises(DeviceError, match=r"ort is run by ort on the worker .* and by ort-2 where its export is"):
        pieces.run_piece(other, (0,))


def test_a_worker_whose_disk_is_full_says_where(tmp_path: Path, work: pieces.Work) -> None:
    big = tmp_path / "trial" / "big"
    big.write_bytes(bytes(100_000))
    full = replace(work, archive=pieces._packed([stored_file(big)]))
    ended, left = on_small_disk(partial(pieces.run_piece, full, (0,)), tmp_path / "disk", 50_000)
    assert isinstance(ended, Failed)
    assert ended.exit_code == 2
    assert f"{tmp_path / 'disk'} on the worker {socket.gethostname()} cannot be written" in ended.reason
    assert left == []
