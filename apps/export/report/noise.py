"""What page and terminal say of classes and images far noisier than others: notes, as no verdict hangs on them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from rexnet_export.apps.export.summary_table import files
from rexnet_export.pipeline.accuracy.class_accuracy import ClassAccuracy
from rexnet_export.pipeline.accuracy.image_noise import noisy_classes
from rexnet_export.pipeline.core.records import NotMeasured
from rexnet_export.pipeline.report.report import Report

SHOWN = 3  # classes or images, the noisiest
CURE = "accuracy counts them already; where they matter, add images like them to --calibration-data"

type Levels = dict[str, float]  # SQNR in dB of something noisy, by file


def noise_notes(report: Report) -> Iterator[str]:
    """At most two sentences, one on classes and one on images; each is named once, with the files that it is of."""
    if not isinstance(report.classes, NotMeasured) and (noisy := _classes(report.classes)):
        count = f"{len(noisy):,} of {len(report.classes):,} classes"
        yield f"far noisier than the median class: {count}, {_worst(noisy)}; {CURE}"
    images: dict[str, Levels] = defaultdict(dict)
    counts: dict[tuple[int, int], list[str]] = defaultdict(list)  # files by images, and how many of them
    asked = {name: file.accuracy.n for name, file in files(report) if not isinstance(file.accuracy, NotMeasured)}
    for name, noise in report.image_noise.items():
        if not isinstance(noise, NotMeasured) and noise.far_worse:
            counts[asked.get(name, report.reference.n), noise.far_worse].append(name)
            for image in noise.worst:
                images[image.id][name] = image.sqnr_db
    if counts:
        said = "; ".join(
            ", ".join(f"{count:,} ({', '.join(names)})" for (n, count), names in of_these) + f" of {n:,}"
            for n, of_these in groupby(sorted(counts.items(), reverse=True), lambda each: each[0][0])
        )
        yield f"far noisier than the median image: {said}, {_worst(images.items())}; {CURE}"


def _classes(classes: Sequence[ClassAccuracy]) -> list[tuple[str, Levels]]:
    found: dict[int, Levels] = defaultdict(dict)
    for name in dict.fromkeys(name for each in classes for name in each.files):
        for place, level in noisy_classes(classes, name):
            found[place][name] = level
    return [(classes[place].label, levels) for place, levels in found.items()]


def _worst(noisy: Iterable[tuple[str, Levels]]) -> str:
    """The noisiest, each with its lowest level and its files."""
    ordered = sorted(noisy, key=lambda item: min(item[1].values()))
    said = (f"{name} ({min(of.values()):.1f} dB; {', '.join(of)})" for name, of in ordered[:SHOWN])
    return f"worst {', '.join(said)}"
