"""What a finished file answers to photos: prepared as its metadata says, the best classes with their probabilities."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import batched
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rexnet_export.pipeline.artifact.inspection import Inspection
from rexnet_export.pipeline.artifact.metadata import card_from
from rexnet_export.pipeline.core.errors import ConversionError, DataError, UsageError
from rexnet_export.pipeline.core.outputs import LOG_PROBABILITIES, LOGITS, log_softmax, network_outputs
from rexnet_export.pipeline.core.progress import Bar, Progress
from rexnet_export.pipeline.core.records import ModelCard
from rexnet_export.pipeline.data.folder import FolderImages, open_folder
from rexnet_export.pipeline.data.sources import attempts
from rexnet_export.pipeline.data.turned import turned_names
from rexnet_export.pipeline.labels.class_names import listed

BATCH, NAMED = 16, 3


class OpenedFile(Protocol):
    """A finished file that can be asked; see `targets.isolation.isolated_file.IsolatedFile`."""

    path: Path

    def inspect(self) -> Inspection:
        """What it says of itself."""

    def outputs(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """uint8 [N, H, W, 3] RGB -> float32 logits [N, classes] and what other heads give, by ONNX tensor name."""


@dataclass(frozen=True, kw_only=True)
class Guess:
    """A class and the probability the network gives it: the softmax of its logits."""

    label: str
    probability: float


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One photo and its best classes, the best first; `numbers` are what heads without classes give, by output."""

    photo: str
    guesses: tuple[Guess, ...]
    numbers: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True, kw_only=True)
class Unread:
    """A photo without an answer, or what was named and has none; the reason names it, too."""

    photo: str
    reason: str


def predict(file: OpenedFile, photos: Sequence[Path], top: int, progress: Progress) -> Iterator[Prediction | Unread]:
    """Answers for photos, and for all photos in folders, in their order; one that cannot be used costs no other's.

    `UsageError` for a backbone.
    """
    if top < 1:
        raise UsageError(f"--top {top}: how many classes to show is 1 or more")
    card = card_from(file.inspect().metadata)
    if card.features:
        raise UsageError(f"{file.path.name} is a backbone: it gives features, not classes")
    sources = []
    for photo in photos:
        try:
            sources.append(_source(photo, card.preprocess.channels))
        except DataError as error:
            yield Unread(photo=str(photo), reason=str(error))
    if names := [name for source in sources for name in turned_names(source, range(len(source)))]:
        progress.note(
            f"{listed(names, NAMED)}: stored turned (EXIF orientation) and asked as stored, as timm and torchvision "
            "do; an app that turns photos upright shows the network other pixels"
        )
    with progress.stage("predicting", sum(map(len, sources)), "photos") as bar:
        for source in sources:
            for remark in source.remarks:
                progress.note(remark)
            yield from _answers(file, card, source, top, bar)


def _source(photo: Path, channels: int) -> FolderImages:
    """A photo, or all of a folder, by the names that the person would give them."""
    if photo.is_dir():
        found = open_folder(photo, labelled=False, channels=channels)
        return replace(found, root=Path(), ids=tuple(str(photo / name) for name in found.ids))
    if not photo.exists():
        raise DataError(f"{photo} does not exist; name photos, or folders of them")
    return FolderImages(root=Path(), ids=(str(photo),), channels=channels)


def _answers(
    file: OpenedFile, card: ModelCard, source: FolderImages, top: int, bar: Bar
) -> Iterator[Prediction | Unread]:
    with closing(attempts(source, card.preprocess, range(len(source)), 2 * BATCH)) as each:
        for chunk in batched(zip(source.ids, each, strict=True), BATCH):
            yield from (Unread(photo=name, reason=str(one)) for name, one in chunk if isinstance(one, DataError))
            read = {name: one for name, one in chunk if not isinstance(one, DataError)}
            if read:
                yield from _predictions(file, card, read, top)
            bar.advance(len(chunk))


def _outputs(file: OpenedFile, pixels: NDArray[np.uint8], card: ModelCard) -> dict[str, NDArray[np.float32]]:
    """What the file gives, which must be what it says of itself."""
    given = network_outputs(file.outputs(pixels))
    # Either has the same softmax.
    outputs = {LOGITS if name == LOG_PROBABILITIES else name: values for name, values in given.items()}
    sizes = {LOGITS: card.answers, **{head.name: head.numbers for head in card.heads}}
    found = {name: values.shape for name, values in outputs.items()}
    if found != {name: (len(pixels), count) for name, count in sizes.items()}:
        answered = ", ".join(f"{name} {list(shape[1:])}" for name, shape in found.items())
        raise ConversionError(f"{file.path.name} says it gives {sizes} and answers {answered}; export it again")
    return outputs


def _predictions(
    file: OpenedFile, card: ModelCard, photos: Mapping[str, NDArray[np.uint8]], top: int
) -> Iterator[Prediction]:
    outputs = _outputs(file, np.stack(list(photos.values())), card)
    numbers = {name: values for name, values in outputs.items() if name != LOGITS or not card.labels}
    for row, photo in enumerate(photos):
        yield Prediction(
            photo=photo,
            guesses=_best(outputs[LOGITS][row], card, top) if card.labels else (),
            numbers={name: tuple(values[row].tolist()) for name, values in numbers.items()},
        )


def _best(logits: NDArray[np.float32], card: ModelCard, top: int) -> tuple[Guess, ...]:
    probabilities = np.exp(log_softmax(logits[None])[0])
    best = probabilities.argsort()[::-1][:top]
    return tuple(Guess(label=card.labels[index], probability=float(probabilities[index])) for index in best)
