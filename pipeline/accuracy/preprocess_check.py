"""Noticing wrong preprocessing: does the float network answer clearly better to images prepared another common way?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rexnet_export.pipeline.accuracy.paired_choice import Paired, paired
from rexnet_export.pipeline.artifact.target import Session
from rexnet_export.pipeline.core.progress import Progress
from rexnet_export.pipeline.core.records import IMAGENET_MEAN, IMAGENET_STD, RGB, Measurement, NotMeasured, Preprocess
from rexnet_export.pipeline.data.selection import Images
from rexnet_export.pipeline.data.settle import FLAGS, shown
from rexnet_export.pipeline.data.sources import batches

FIRST, MOST = 96, 512  # images: what is not ahead on the first is not tried on all
AHEAD = 2
BATCH = 32

type Open = Callable[[Preprocess], Session]  # the float network, which normalises images as it is told

GEOMETRIES: tuple[Mapping[str, Any], ...] = (
    {"crop_mode": "squash", "crop_ratio": 1.0},
    {"crop_mode": "center", "crop_ratio": 1.0},
    {"crop_mode": "center", "crop_ratio": 0.875},
    {"crop_mode": "border", "crop_ratio": 1.0},
)
COLOURS: tuple[Mapping[str, Any], ...] = (
    {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)},
    {"mean": IMAGENET_MEAN, "std": IMAGENET_STD},
    {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)},
)


@dataclass(frozen=True, kw_only=True)
class Alternative:
    """Another common preprocessing: the fields that differ, and how it does beside the export's."""

    changes: Mapping[str, Any]
    paired: Paired

    @property
    def flags(self) -> str:
        """What to give to get it."""
        return " ".join(f"{FLAGS[name]} {shown(value)}" for name, value in self.changes.items())


@dataclass(frozen=True, kw_only=True)
class PreprocessCheck:
    """Every preprocessing that was tried, and the one that is clearly better, if one is."""

    tried: tuple[Alternative, ...]
    better: Alternative | None

    @property
    def notice(self) -> str | None:
        """One line on what is clearly better."""
        if self.better is None:
            return None
        return (
            f"preprocessing looks wrong: {self.better.flags} gives the float network {self.better.paired}; if it was "
            "trained so, give these flags"
        )


def check_preprocess(
    open_network: Open, images: Images, preprocess: Preprocess, progress: Progress
) -> Measurement[PreprocessCheck]:
    """Compare with other common preprocessings on at most 512 labelled images; first geometry, then colours."""
    if images.labels is None:
        return NotMeasured(reason="the images have no labels")
    trial = _Trial(open_network, images)
    tried: list[Alternative] = []
    best: Mapping[str, Any] = {}
    with progress.stage("trying other preprocessing", len(GEOMETRIES) + len(COLOURS), "ways") as bar:
        for family in (GEOMETRIES, COLOURS if preprocess.channels == RGB else ()):
            found = []
            for fields in family:
                changes = _changes(preprocess, {**best, **fields})
                if changes and changes != best and (alternative := trial.compare(preprocess, changes)):
                    found.append(alternative)
                bar.advance()
            tried += found
            ahead = [each for each in found if each.paired.gained > each.paired.lost]
            if ahead:
                best = max(ahead, key=lambda each: each.paired.top1).changes
    clear = [each for each in tried if each.paired.clear(len(tried))]
    return PreprocessCheck(tried=tuple(tried), better=max(clear, key=lambda each: each.paired.top1, default=None))


def _changes(preprocess: Preprocess, fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if getattr(preprocess, name) != value}


class _Trial:
    """A network and the images that every preprocessing is tried on, a sample in random order."""

    def __init__(self, open_network: Open, images: Images) -> None:
        assert images.labels is not None
        chosen = np.random.default_rng(0).permutation(len(images.indices))[:MOST]
        self._open, self._source = open_network, images.source
        self._indices = [images.indices[place] for place in chosen]
        self._labels = images.labels[chosen]
        self._right: dict[Preprocess, NDArray[np.bool_]] = {}

    def compare(self, preprocess: Preprocess, changes: Mapping[str, Any]) -> Alternative | None:
        """None where both give the same pixels to the same network."""
        other = replace(preprocess, **changes)
        if (preprocess.mean, preprocess.std) == (other.mean, other.std) and self._same_pixels(preprocess, other):
            return None
        few = paired(self._answers(preprocess, FIRST), self._answers(other, FIRST))
        if few.gained - few.lost < AHEAD or len(self._indices) <= FIRST:
            return Alternative(changes=changes, paired=few)
        return Alternative(changes=changes, paired=paired(self._answers(preprocess, MOST), self._answers(other, MOST)))

    def _same_pixels(self, one: Preprocess, other: Preprocess) -> bool:
        return np.array_equal(self._pixels(one, self._indices[:BATCH]), self._pixels(other, self._indices[:BATCH]))

    def _pixels(self, preprocess: Preprocess, indices: Sequence[int]) -> NDArray[np.uint8]:
        return np.concatenate(list(batches(self._source, preprocess, indices, BATCH)))

    def _answers(self, preprocess: Preprocess, count: int) -> NDArray[np.bool_]:
        """Which of the first `count` images are right; what was answered before is not asked again."""
        before = self._right.get(preprocess, np.zeros(0, bool))
        if len(before) < min(count, len(self._indices)):
            session = self._open(preprocess)
            remaining = self._indices[len(before) : count]
            answers = [session.run(pixels).argmax(1) for pixels in batches(self._source, preprocess, remaining, BATCH)]
            right = np.concatenate(answers) == self._labels[len(before) : count]
            before = self._right[preprocess] = np.concatenate([before, right])
        return before[:count]
