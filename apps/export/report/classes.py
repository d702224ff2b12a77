"""The part of `report.html` on accuracy class by class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from markupsafe import Markup

from rexnet_export.apps.shared.html.document import render
from rexnet_export.apps.shared.text import shown
from rexnet_export.pipeline.accuracy.class_accuracy import ClassAccuracy, far_worse
from rexnet_export.pipeline.accuracy.image_noise import noisy_classes
from rexnet_export.pipeline.core.records import NotMeasured
from rexnet_export.pipeline.report.report import Report

SHOWN = 12  # classes, those that lose most


def class_warnings(report: Report) -> Iterator[str]:
    """One sentence a file for the classes that lose far more than its median class."""
    if isinstance(report.classes, NotMeasured):
        return
    names = _names(report.classes)
    for name in names:
        if noisy := list(noisy_classes(report.classes, name)):
            said = ", ".join(f"{each.label} ({level:.1f} dB)" for each, level, _ in noisy)
            yield f"{name} is far noisier in some classes than in its median one ({noisy[0][2]:.1f} dB): {said}"
        worse = [
            f"{each.label} ({each.reference:.1%} to {each.files[name]:.1%} of {each.n:,})"
            for _, each in far_worse(report.classes, [name])
        ]
        if worse:
            yield f"{name} loses far more in some classes than in others: {', '.join(worse)}"


def image_warnings(report: Report) -> Iterator[str]:
    """One sentence a file for the images that are far noisier than its median image."""
    for name, noise in report.image_noise.items():
        if isinstance(noise, NotMeasured) or not noise.far_worse:
            continue
        worst = ", ".join(f"{image.id} ({image.sqnr_db:.1f} dB)" for image in noise.worst)
        yield (
            f"{name} is far noisier on {noise.far_worse:,} of {report.reference.n:,} images than on its median one "
            f"({noise.median_db:.1f} dB), most of all on {worst}"
        )


def class_section(report: Report) -> Markup:
    """The section, or nothing where no image has a label."""
    if isinstance(report.classes, NotMeasured):
        return Markup()
    names = _names(report.classes)
    ordered = sorted(report.classes, key=lambda each: -max(map(each.drop, names), default=0.0))
    rows = [
        (each.label, f"{each.n:,}", f"{each.reference:.1%}", *(_cell(each, name) for name in names)) for each in ordered
    ]
    return render(
        __package__,
        "classes.html",
        head=("class", "images", "float", *names),
        rows=rows[:SHOWN],
        rest=rows[SHOWN:],
        missing=len(report.card.labels) - len(rows),
    )


def _cell(each: ClassAccuracy, name: str) -> str:
    return f"{each.files[name]:.1%}, {shown(each.sqnr_db[name], lambda level: f'{level:.1f} dB')}"


def _names(classes: Sequence[ClassAccuracy]) -> list[str]:
    return list(classes[0].files) if classes else []
