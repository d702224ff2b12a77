"""The part of `report.html` on accuracy class by class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from markupsafe import Markup

from rexnet_export.apps.shared.html.document import render
from rexnet_export.apps.shared.text import DASH, shown
from rexnet_export.pipeline.accuracy.class_accuracy import ClassAccuracy, far_worse
from rexnet_export.pipeline.core.records import NotMeasured
from rexnet_export.pipeline.report.report import Report

SHOWN = 12  # classes, those that lose most


def class_warnings(report: Report) -> Iterator[str]:
    """One sentence for the classes that lose far more than a file's median class, each named once with those files."""
    if isinstance(report.classes, NotMeasured):
        return
    worse: dict[str, dict[str, list[str]]] = {}  # files by what they have right, by class
    for name, each in far_worse(report.classes, _names(report.classes)):
        asked = each.asked(name)
        label = f"{each.label} ({asked.n:,} images, {asked.reference:.1%} right in float)"
        worse.setdefault(label, {}).setdefault(f"{each.files[name]:.1%}", []).append(name)
    if worse:
        said = {
            label: ", ".join(f"{share} in {', '.join(names)}" for share, names in shares.items())
            for label, shares in worse.items()
        }
        yield f"Classes that lose far more than others: {'; '.join(f'{label}: {of}' for label, of in said.items())}"


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
    if name not in each.files:
        return DASH
    return f"{each.files[name]:.1%}, {shown(each.sqnr_db[name], lambda level: f'{level:.1f} dB')}"


def _names(classes: Sequence[ClassAccuracy]) -> list[str]:
    """All files, in order: a class may have no image of those that one was asked about."""
    return list(dict.fromkeys(name for each in classes for name in each.files))
