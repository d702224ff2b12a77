"""The reference and every file on the same images: what each answers, its outputs beside the reference's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rexnet_export.pipeline.accuracy import evaluate
from rexnet_export.pipeline.accuracy.compare import TensorComparison, TensorDifference
from rexnet_export.pipeline.accuracy.evaluate import Logits
from rexnet_export.pipeline.accuracy.places import Places
from rexnet_export.pipeline.artifact.target import OutputSession
from rexnet_export.pipeline.core.outputs import alike, answer, network_outputs
from rexnet_export.pipeline.core.progress import Progress
from rexnet_export.pipeline.core.records import Preprocess
from rexnet_export.pipeline.data.selection import Images
from rexnet_export.pipeline.data.sources import batches
from rexnet_export.pipeline.proof.network import Network, held

REFERENCE = "reference"
# Bytes of pixels: 5,440 images at 64 px, 384 at 224. To open all again takes what a few images of 224 px do, which is
# little beside so many; twice the room would save half of that little, and take as much memory again.
HELD = 2**26

type Networks = Mapping[str, Network]
type Given = tuple[str, Mapping[str, Logits]]  # what a network gives for a batch, by its name
# Every network's batches come in the order of the images.
type RunImages = Callable[[Networks, Images, Preprocess], Iterator[Given]]


@dataclass(frozen=True, kw_only=True)
class Run:
    """What one network gave: its answers [n, answers], and each output beside the reference's.

    Of the reference itself there is nothing beside it, but where a file stands for it. `places` [n] are the images that
    it was asked about, where not about all, and `looks` how often its drop may be judged.
    """

    answers: Logits
    outputs: tuple[TensorDifference, ...]
    places: Places | None = None
    looks: int = 1

    def at[Value: np.generic](self, values: NDArray[Value]) -> NDArray[Value]:
        """Of something that every image has [n, ...] that of the images it was asked about."""
        return values if self.places is None else values[self.places]


def run_here(networks: Networks, images: Images, preprocess: Preprocess) -> Iterator[Given]:
    """What every network gives in this process, all open together: all give a batch, in their order, then the next."""
    sessions = {name: network.open() for name, network in networks.items()}
    for pixels in batches(images.source, preprocess, images.indices, evaluate.BATCH):
        for name, session in sessions.items():
            yield name, network_outputs(session.outputs(pixels))


def one_by_one(networks: Networks, images: Images, preprocess: Preprocess) -> Iterator[Given]:
    """What every network gives in this process, one open at a time; as many images as `HELD` has room for are decoded
    once, run by each network, and forgotten."""
    pixels: list[NDArray[np.uint8]] = []
    for batch in batches(images.source, preprocess, images.indices, evaluate.BATCH):
        if pixels and (len(pixels) + 1) * pixels[0].nbytes > HELD:
            yield from _in_turns(networks, pixels)
            pixels = []
        pixels.append(batch)
    yield from _in_turns(networks, pixels)


def _in_turns(networks: Networks, pixels: Sequence[NDArray[np.uint8]]) -> Iterator[Given]:
    for name, network in networks.items():
        yield from _given(name, network.open(), pixels)


def _given(name: str, session: OutputSession, pixels: Sequence[NDArray[np.uint8]]) -> Iterator[Given]:
    """Of batches; what holds the session ends with them."""
    for batch in pixels:
        yield name, network_outputs(session.outputs(batch))


def run_networks(
    reference: OutputSession,
    networks: Networks,
    images: Images,
    preprocess: Preprocess,
    progress: Progress,
    run: RunImages = run_here,
) -> dict[str, Run]:
    """Have `run` run the reference and every network, the reference first.

    A file that gives the reference's own outputs, digit for digit, on the first images stands for it on the others:
    a saved float network in the same runtime need not be run twice.
    """
    twin = _twin(reference, networks, images, preprocess)
    running = {REFERENCE: held(reference)} | {name: network for name, network in networks.items() if name != twin}
    answers: dict[str, list[Logits]] = {name: [] for name in running}
    comparisons = {name: TensorComparison({}) for name in running if twin or name != REFERENCE}
    expected: Mapping[str, Logits] = {}
    with progress.stage(evaluate.running(len(running)), len(images.indices), "images") as bar:
        for name, outputs in run(running, images, preprocess):
            answers[name].append(evaluate.finite(answer(outputs), f"{name}: {running[name].executed_by}"))
            if name == REFERENCE:
                expected = outputs
                bar.advance(len(answers[name][-1]))
            if name in comparisons:
                comparisons[name].add(alike(expected, outputs), outputs)
    runs = {
        name: Run(
            answers=np.concatenate(parts),
            outputs=comparisons[name].result().tensors if name in comparisons else (),
        )
        for name, parts in answers.items()
    }
    return runs | ({twin: runs[REFERENCE]} if twin else {})


def _twin(reference: OutputSession, networks: Networks, images: Images, preprocess: Preprocess) -> str | None:
    """The file that stands for the reference; nothing runs where no file's runtime is the reference's."""
    same = [name for name, network in networks.items() if network.executed_by == reference.executed_by]
    if not same:
        return None
    few = next(batches(images.source, preprocess, images.indices[: evaluate.BATCH], evaluate.BATCH))
    expected = reference.outputs(few)
    return next((name for name in same if _equal_outputs(networks[name].open().outputs(few), expected)), None)


def _equal_outputs(one: Mapping[str, Logits], other: Mapping[str, Logits]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)
