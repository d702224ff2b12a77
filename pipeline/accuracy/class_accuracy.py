"""Top-1 class by class: a loss that the mean hides."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray

from rexnet_export.pipeline.accuracy.compare import EQUAL, SILENT
from rexnet_export.pipeline.accuracy.evaluate import Logits
from rexnet_export.pipeline.accuracy.paired_statistics import sqnr_db
from rexnet_export.pipeline.core.records import AtLeastOne, Fraction, Measurement

FAR_WORSE, FEWEST = 0.02, 3  # of a class's images, beyond the median class; and how many images that is at least


@dataclass(frozen=True, kw_only=True)
class ClassAccuracy:
    """One class: its images, the share that the reference and each file have right, and SQNR in dB of each file."""

    label: str
    n: AtLeastOne
    reference: Fraction
    files: Mapping[str, Fraction]
    sqnr_db: Mapping[str, Measurement[float]]

    def drop(self, name: str) -> float:
        """What a file loses of the reference's share."""
        return self.reference - self.files[name]


def class_accuracies(
    reference: Logits,
    files: Mapping[str, Logits],
    beside: Mapping[str, Logits],
    labels: NDArray[np.int64],
    names: Sequence[str],
) -> tuple[ClassAccuracy, ...]:
    """Of every class that has images, in the network's order; `beside` is the reference in each file's own terms."""
    right = {name: values.argmax(1) == labels for name, values in files.items()}
    reference_right = reference.argmax(1) == labels
    found = []
    for index in np.unique(labels):
        of = labels == index
        found.append(
            ClassAccuracy(
                label=names[index],
                n=int(of.sum()),
                reference=float(reference_right[of].mean()),
                files={name: float(values[of].mean()) for name, values in right.items()},
                sqnr_db={name: level(beside[name][of], logits[of]) for name, logits in files.items()},
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
        usual = median(each.drop(name) for each in classes)
        for each in classes:
            beyond = each.drop(name) - usual
            if beyond > FAR_WORSE and beyond * each.n >= FEWEST:
                yield name, each
