"""Top-1 class by class: a loss that the mean hides."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from types import MappingProxyType
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from rexnet_export.pipeline.accuracy.compare import EQUAL, SILENT
from rexnet_export.pipeline.accuracy.evaluate import Logits
from rexnet_export.pipeline.accuracy.paired_statistics import sqnr_db
from rexnet_export.pipeline.accuracy.places import Places
from rexnet_export.pipeline.core.records import AtLeastOne, Fraction, Measurement

FAR_WORSE, FEWEST = 0.02, 3  # of a class's images, beyond the median class; and how many images that is at least


def _nothing(value: object) -> bool:
    return not value


@dataclass(frozen=True, kw_only=True)
class FewerImages:
    """Images of a class that a file was asked about, where not about all; the share that the reference has right."""

    n: AtLeastOne
    reference: Fraction


@dataclass(frozen=True, kw_only=True)
class ClassAccuracy:
    """One class: its images, the share that the reference and each file have right, and SQNR in dB of each file.

    `fewer` has the files that were asked about fewer images; one that was asked about none of the class is nowhere.
    """

    label: str
    n: AtLeastOne
    reference: Fraction
    files: Mapping[str, Fraction]
    sqnr_db: Mapping[str, Measurement[float]]
    fewer: Annotated[Mapping[str, FewerImages], Field(exclude_if=_nothing)] = field(default_factory=dict)

    def asked(self, name: str) -> FewerImages:
        """What a file was asked about."""
        return self.fewer.get(name) or FewerImages(n=self.n, reference=self.reference)

    def drop(self, name: str) -> float:
        """What a file loses of the reference's share; nothing is seen of one that was not asked."""
        return self.asked(name).reference - self.files[name] if name in self.files else 0.0


def class_accuracies(
    reference: Logits,
    files: Mapping[str, Logits],
    beside: Mapping[str, Logits],
    labels: NDArray[np.int64],
    names: Sequence[str],
    places: Mapping[str, Places] = MappingProxyType({}),
) -> tuple[ClassAccuracy, ...]:
    """Of every class that has images, in the network's order; `beside` is the reference in each file's own terms.

    Files with `places` are of these images alone, and what is beside them too.
    """
    labels_of = {name: labels[places[name]] if name in places else labels for name in files}
    right = {name: values.argmax(1) == labels_of[name] for name, values in files.items()}
    reference_right = reference.argmax(1) == labels
    found = []
    for index in np.unique(labels):
        of = labels == index
        asked = {name: its == index for name, its in labels_of.items() if (its == index).any()}
        found.append(
            ClassAccuracy(
                label=names[index],
                n=int(of.sum()),
                reference=float(reference_right[of].mean()),
                files={name: float(right[name][its].mean()) for name, its in asked.items()},
                sqnr_db={name: level(beside[name][its], files[name][its]) for name, its in asked.items()},
                fewer={
                    name: FewerImages(
                        n=int(asked[name].sum()), reference=float(reference_right[at][asked[name]].mean())
                    )
                    for name, at in places.items()
                    if name in asked
                },
            )
        )
    return tuple(found)


def level(reference: Logits, logits: Logits) -> Measurement[float]:
    """SQNR in dB, to a hundredth; none where nothing differs, or the reference is silent."""
    found = sqnr_db(reference, logits)
    return round(found, 2) if math.isfinite(found) else EQUAL if found > 0 else SILENT


def far_worse(classes: Sequence[ClassAccuracy], names: Iterable[str]) -> Iterator[tuple[str, ClassAccuracy]]:
    """Files and classes that lose clearly more than that file's median class."""
    for name in names:
        asked = [each for each in classes if name in each.files]
        usual = median(each.drop(name) for each in asked)
        for each in asked:
            beyond = each.drop(name) - usual
            if beyond > FAR_WORSE and beyond * each.asked(name).n >= FEWEST:
                yield name, each
