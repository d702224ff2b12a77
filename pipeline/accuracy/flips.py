"""Images on which an artifact chooses another class than the float reference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from rexnet_export.pipeline.accuracy.evaluate import Logits
from rexnet_export.pipeline.accuracy.places import Places
from rexnet_export.pipeline.core.records import Count, Fraction

MOST_LISTED = 48


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The class that a network chose, and the probability it gave it."""

    name: str
    probability: Fraction


@dataclass(frozen=True, kw_only=True)
class FlippedImage:
    """One image: its label where known, what the reference chose, and what the artifacts chose that differ from it."""

    id: str
    label: str | None
    reference: Choice
    others: Mapping[str, Choice]


@dataclass(frozen=True, kw_only=True)
class Flips:
    """How many images flip in any artifact, and those that flip in the most, the surest of the reference first."""

    images: Count
    listed: tuple[FlippedImage, ...]


def flips(
    reference: Logits,
    artifacts: Mapping[str, Logits],
    ids: Sequence[str],
    labels: NDArray[np.int64] | None,
    class_names: Sequence[str],
    places: Mapping[str, Places] = MappingProxyType({}),
) -> Flips:
    """Compare logits [n, classes] of every artifact with the reference's; some are of the images at `places` alone."""
    artifacts = {name: _on_all(logits, reference, places.get(name)) for name, logits in artifacts.items()}
    chosen = reference.argmax(1)
    differing = {name: logits.argmax(1) != chosen for name, logits in artifacts.items()}
    counts = np.sum([*differing.values()], axis=0) if differing else np.zeros(len(reference), int)
    sure = softmax(reference, axis=1).max(1)
    order = np.lexsort((-sure, -counts))
    flipped = [int(index) for index in order if counts[index]]

    def choice(logits: Logits) -> Choice:
        place = int(logits.argmax())
        return Choice(name=class_names[place], probability=round(float(softmax(logits)[place]), 4))

    def listed() -> Iterator[FlippedImage]:
        for index in flipped[:MOST_LISTED]:
            yield FlippedImage(
                id=ids[index],
                label=None if labels is None else class_names[int(labels[index])],
                reference=choice(reference[index]),
                others={name: choice(artifacts[name][index]) for name, changed in differing.items() if changed[index]},
            )

    return Flips(images=len(flipped), listed=tuple(listed()))


def _on_all(logits: Logits, reference: Logits, places: Places | None) -> Logits:
    """The reference's where an artifact was not asked: nothing has flipped there that anybody saw."""
    if places is None:
        return logits
    whole = reference.copy()
    whole[places] = logits
    return whole
