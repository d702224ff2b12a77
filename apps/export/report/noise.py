"""What page and terminal say of classes and images far noisier than others: notes, as no verdict hangs on them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from rexnet_export.pipeline.accuracy.image_noise import noisy_classes
from rexnet_export.pipeline.core.records import NotMeasured
from rexnet_export.pipeline.report.report import Report

SHOWN = 3  # classes or images, the noisiest
CURE = "accuracy counts them already; where they matter, add images like them to --calibration-data"

type Levels = dict[str, dict[str, float]]  # SQNR in dB of what is noisy, by its name and by file


def noise_notes(report: Report) -> Iterator[str]:
    """At most two sentences, one on classes and one on images; each is named once, with the files that it is of."""
    if (classes := _classes(report)) and not isinstance(report.classes, NotMeasured):
        count = f"{len(classes):,} of {len(report.classes):,} classes"
        yield f"far noisier than the median class: {count}, {_worst(classes)}; {CURE}"
    images: Levels = defaultdict(dict)
    counts: dict[int, list[str]] = defaultdict(list)
    for name, noise in report.image_noise.items():
        if not isinstance(noise, NotMeasured) and noise.far_worse:
            counts[noise.far_worse].append(name)
            for image in noise.worst:
                images[image.id][name] = image.sqnr_db
    if counts:
        said = ", ".join(f"{count:,} ({', '.join(names)})" for count, names in sorted(counts.items(), reverse=True))
        yield f"far noisier than the median image: {said} of {report.reference.n:,}, {_worst(images)}; {CURE}"


def _classes(report: Report) -> Levels:
    found: Levels = defaultdict(dict)
    if not isinstance(report.classes, NotMeasured) and report.classes:
        for name in report.classes[0].files:
            for each, level, _ in noisy_classes(report.classes, name):
                found[each.label][name] = level
    return found


def _worst(levels: Levels) -> str:
    """The noisiest, each with its lowest level and its files."""
    ordered = sorted(levels.items(), key=lambda item: min(item[1].values()))
    said = (f"{name} ({min(of.values()):.1f} dB; {', '.join(of)})" for name, of in ordered[:SHOWN])
    return f"worst {', '.join(said)}"
