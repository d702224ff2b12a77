"""Which files keep the gate's margin against the float network: what page and terminal say of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from rexnet_export.apps.export.options import GPU
from rexnet_export.apps.export.summary_table import files
from rexnet_export.pipeline.accuracy.evaluate import Accuracy
from rexnet_export.pipeline.accuracy.margin import MARGIN
from rexnet_export.pipeline.core.records import NotMeasured
from rexnet_export.pipeline.report.report import Report

type Kind = Literal["good", "bad", "open"]


def accuracy_verdicts(report: Report) -> Iterator[tuple[Kind, str]]:
    """One sentence for the files that keep the margin, one for those that do not, and one for those that may.

    The reference's own file is compared with itself, and has no verdict.
    """
    measured = {
        name: file.accuracy
        for name, file in files(report)
        if name != GPU and not isinstance(file.accuracy, NotMeasured)
    }
    sentences: dict[Kind, str] = {
        "good": f"Less than {MARGIN:g} points lost against float, with 95 % confidence",
        "bad": f"More than {MARGIN:g} points lost against float, with 95 % confidence",
        "open": f"Not enough evidence whether {MARGIN:g} points are lost (ask more: --eval-images, --eval-data)",
    }
    for kind, sentence in sentences.items():
        named: dict[str, list[str]] = {}  # by what is said of them
        for name, accuracy in measured.items():
            if _kind(accuracy) == kind:
                named.setdefault(_loss(kind, accuracy), []).append(name)
        if named:
            yield kind, f"{sentence}: {'; '.join(', '.join(names) + loss for loss, names in named.items())}"


def _kind(accuracy: Accuracy) -> Kind:
    if accuracy.drop_upper_95 < MARGIN / 100:
        return "good"
    return "bad" if accuracy.drop_lower_95 > MARGIN / 100 else "open"


def _loss(kind: Kind, accuracy: Accuracy) -> str:
    """What was lost, or may have been."""
    if kind == "good":
        return ""
    lower, upper = 100 * accuracy.drop_lower_95, 100 * accuracy.drop_upper_95
    return f" (drop {100 * accuracy.drop:+.2f} points, at least {lower:.2f}, at most {upper:.2f})"
