"""What a finished file answers to photos: prepared as its metadata says, the best classes with their probabilities."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from rexnet_export.pipeline.artifact.inspection import Inspection
from rexnet_export.pipeline.artifact.metadata import card_from
from rexnet_export.pipeline.core.errors import DataError, UsageError
from rexnet_export.pipeline.core.progress import Progress
from rexnet_export.pipeline.core.records import ModelCard
from rexnet_export.pipeline.data.folder import FolderImages, open_folder
from rexnet_export.pipeline.data.sources import batches

BATCH = 16


class OpenedFile(Protocol):
    """A finished file that can be asked; see `targets.isolation.isolated_file.IsolatedFile`."""

    path: Path

    def inspect(self) -> Inspection:
        """What it says of itself."""

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 [N, H, W, 3] RGB -> float32 logits [N, classes]."""


@dataclass(frozen=True, kw_only=True)
class Guess:
    """A class and the probability the network gives it: the softmax of its logits."""

    label: str
    probability: float


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One photo and its best classes, the best first."""

    photo: str
    guesses: tuple[Guess, ...]


def predict(file: OpenedFile, photos: Sequence[Path], top: int, progress: Progress) -> Iterator[Prediction]:
    """Answers for photos, and for all photos in folders, in their order.

    `UsageError` for a file without classes, `DataError` for what is no photo.
    """
    if top < 1:
        raise UsageError(f"--top {top}: how many classes to show is 1 or more")
    card = card_from(file.inspect().metadata)
    if card.features:
        raise UsageError(f"{file.path.name} is a backbone: it gives features, not classes")
    sources = [_source(photo) for photo in photos]
    with progress.stage("predicting", sum(map(len, sources)), "photos") as bar:
        for photo, source in zip(photos, sources, strict=True):
            names = [str(photo / name) if photo.is_dir() else str(photo) for name in source.ids]
            yield from _answers(file, card, source, names, top)
            bar.advance(len(source))


def _source(photo: Path) -> FolderImages:
    if photo.is_dir():
        return open_folder(photo, labelled=False)
    if not photo.exists():
        raise DataError(f"{photo} does not exist; name photos, or folders of them")
    return FolderImages(root=photo.parent, ids=(photo.name,))


def _answers(
    file: OpenedFile, card: ModelCard, source: FolderImages, names: Sequence[str], top: int
) -> Iterator[Prediction]:
    place = 0
    for pixels in batches(source, card.preprocess, range(len(source)), BATCH):
        for probabilities in softmax(file.run(pixels).astype(np.float64), axis=1):
            best = probabilities.argsort()[::-1][:top]
            guesses = tuple(Guess(label=card.labels[index], probability=float(probabilities[index])) for index in best)
            yield Prediction(photo=names[place], guesses=guesses)
            place += 1
