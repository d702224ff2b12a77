"""`sweep.json` and `timings.json` (their schemas lie beside this file)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Gt, Lt
from pydantic import ConfigDict

from rexnet_export.apps.shared.trials.outcome import Failed
from rexnet_export.pipeline.accuracy.evaluate import Accuracy
from rexnet_export.pipeline.core.json_record import JsonRecord, Sha256
from rexnet_export.pipeline.core.records import (
    AtLeastOne,
    Count,
    Drop,
    Fraction,
    Measurement,
    NotNegative,
    Precision,
    Size,
    Text,
)

SWEEP_FILE, TIMINGS_FILE = "sweep.json", "timings.json"


@dataclass(frozen=True, kw_only=True)
class AgainstBest:
    """A file beside the most accurate float network of the sweep, image by image.

    `p_holm` is p of "it loses the margin or more", corrected for all files of the same name in the sweep.
    """

    worse: Count
    better: Count
    drop: Drop
    drop_upper_95: Drop
    p_holm: Fraction


class FileRow(JsonRecord):
    """One file that a trial made."""

    name: Text
    """The target, and the preset where it is one."""
    file: Text
    """From the sweep's folder."""
    sha256: Sha256
    bytes: AtLeastOne
    accuracy: Measurement[Accuracy]
    """Beside the float network it was made from."""
    top1_of_all: Fraction | None = None
    """What fronts go by; of a file that was asked about fewer images, its float network's top-1 less its drop."""
    against_best: Measurement[AgainstBest]
    on_size_front: bool
    """Whether no file of the same name is both as accurate and as small, and better in one of them."""


class TrialRow(JsonRecord):
    """One export: what was asked for, and its files or why there are none."""

    name: Text
    checkpoint: str | None
    """Its path, or its name on the hub; null is the bundled one."""
    image_size: Size | None
    effort: str | None
    precision: Precision
    target: Text
    failure: Failed | None
    files: tuple[FileRow, ...]


@dataclass(frozen=True, kw_only=True)
class Best:
    """The float network with the highest top-1, by a trial that was made from it."""

    trial: Text
    top1: Fraction


class NoticeRow(JsonRecord):
    """What a person has to know before any figure, as the reports of these trials say it."""

    notice: Text
    trials: tuple[Text, ...]


class SweepJson(JsonRecord):
    """What a sweep made, without anything that differs from run to run: the same for every way to run it."""

    model_config = ConfigDict(title="Sweep (sweep.json)")

    schema_version: Literal[1] = 1
    margin: Annotated[float, Gt(0), Lt(1)]
    """The drop that `p_holm` is about, as a fraction."""
    images: Count
    """That all files were compared on; 0 where there was nothing to compare."""
    images_sha256: str | None
    best: Measurement[Best]
    notices: tuple[NoticeRow, ...] = ()
    """Each once, in the order of the trials."""
    trials: tuple[TrialRow, ...]


class TimedRow(JsonRecord):
    """Milliseconds of one image, batch 1, one thread."""

    p50_ms: NotNegative
    p90_ms: NotNegative
    n: AtLeastOne
    on_speed_front: bool
    """Whether no file of the same name is both as accurate and as fast, and better in one of them."""


class TimingsJson(JsonRecord):
    """How fast the files of a sweep are: measured on one machine, in turns, when all trials were done."""

    model_config = ConfigDict(title="Speed of a sweep's files (timings.json)")

    schema_version: Literal[1] = 1
    machine: Text
    files: dict[str, Measurement[TimedRow]]
    """By file, from the sweep's folder."""
