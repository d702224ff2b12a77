"""A sweep as a CSV table, and as lines on a terminal."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator

from rexnet_export.apps.export.sweep.sweep_json import FileRow, SweepJson, TimingsJson, TrialRow
from rexnet_export.apps.shared.terminal_table import Column, FittedTable
from rexnet_export.apps.shared.text import DASH, counted, grouped, shown
from rexnet_export.pipeline.core.records import Measurement, NotMeasured
from rexnet_export.pipeline.data.settle import shown as shown_value

ASKED = ("trial", "checkpoint", "image_size", "effort", "precision", "target")
MADE = ("name", "file", "sha256", "bytes", "on_size_front")
MEASURED = ("images", "top1", "drop", "drop_upper_95", "best_drop", "best_drop_upper_95", "best_p_holm")
FAILED = ("exit_code", "failure")
COLUMNS = ("trial", "file of", "top-1", "below best", "at most", "p", "MB", "p50 ms", "front")
LESS = ("p", "below best")  # go first where a terminal has no room


def csv_table(sweep: SweepJson) -> str:
    """A line for each file, and one for each trial that failed; what was not measured is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((*ASKED, *MADE, *MEASURED, *FAILED))
    for trial in sweep.trials:
        for row in trial.files:
            made = (row.name, row.file, row.sha256, row.bytes, int(row.on_size_front))
            writer.writerow((*_asked(trial), *made, *_measured(row), "", ""))
        if trial.failure is not None:
            empty = [""] * len((*MADE, *MEASURED))
            writer.writerow((*_asked(trial), *empty, trial.failure.exit_code, trial.failure.reason))
    return text.getvalue()


def _asked(trial: TrialRow) -> tuple[object, ...]:
    size = "" if trial.image_size is None else shown_value(trial.image_size)
    return (trial.name, trial.checkpoint or "", size, trial.effort or "", trial.precision, trial.target)


def _measured(row: FileRow) -> Iterator[object]:
    if isinstance(row.accuracy, NotMeasured):
        yield from [""] * 4
    else:
        yield row.accuracy.n
        yield from (f"{value:.6f}" for value in (row.accuracy.top1, row.accuracy.drop, row.accuracy.drop_upper_95))
    if isinstance(row.against_best, NotMeasured):
        yield from [""] * 3
    else:
        found = row.against_best
        yield from (f"{value:.6f}" for value in (found.drop, found.drop_upper_95, found.p_holm))


def table(sweep: SweepJson, timings: TimingsJson) -> FittedTable:
    """The files side by side."""
    columns = [
        Column(
            title=name,
            left=name == "file of",
            name=name == "trial",
            spare=LESS.index(name) + 1 if name in LESS else 0,
        )
        for name in COLUMNS
    ]
    return FittedTable(summary(sweep), columns, list(rows(sweep, timings)))


def summary(sweep: SweepJson) -> str:
    """What everything is compared with, in a sentence."""
    failed = sum(trial.failure is not None for trial in sweep.trials)
    done = f"{len(sweep.trials) - failed} of {len(sweep.trials)} trials done"
    if isinstance(sweep.best, NotMeasured):
        return f"{done}; nothing is compared: {sweep.best.reason}"
    best = f"top-1 {sweep.best.top1:.2%}, that of {sweep.best.trial}"
    return f"{done}; best float network on {sweep.images:,} images: {best}"


def rows(sweep: SweepJson, timings: TimingsJson) -> Iterator[tuple[str, ...]]:
    """The cells of every file, in the order of `COLUMNS`; drops in points."""
    for trial in sweep.trials:
        for row in trial.files:
            time = timings.files.get(row.file, NotMeasured(reason="it was not timed"))
            yield (
                trial.name,
                row.name,
                shown(row.accuracy, lambda accuracy: f"{accuracy.top1:.2%}{_fewer(accuracy.n, sweep.images)}"),
                shown(row.against_best, lambda found: f"{found.drop * 100:+.2f}"),
                shown(row.against_best, lambda found: f"{found.drop_upper_95 * 100:+.2f}"),
                shown(row.against_best, lambda found: f"{found.p_holm:.2g}"),
                f"{row.bytes / 1e6:.1f}",
                shown(time, lambda timed: f"{timed.p50_ms:.2f}"),
                " ".join(_fronts(row, time)) or DASH,
            )


def _fewer(n: int, images: int) -> str:
    """Of how many images, where not of all."""
    return f" of {n:,}" if n < images else ""


def _fronts(row: FileRow, time: Measurement[object]) -> Iterator[str]:
    if row.on_size_front:
        yield "size"
    if getattr(time, "on_speed_front", False):
        yield "speed"


def notices(sweep: SweepJson) -> Iterator[str]:
    """What the trials' reports give notice of, every notice once with its trials; of all trials it names none."""
    for row in sweep.notices:
        everywhere = len(row.trials) == len(sweep.trials) > 1
        yield f"{'all trials' if everywhere else ', '.join(row.trials)}: {row.notice}"


def untimed(timings: TimingsJson) -> Iterator[str]:
    """Why files have no times, every reason once with how many they are."""
    reasons = Counter(time.reason for time in timings.files.values() if isinstance(time, NotMeasured))
    for reason, count in reasons.items():
        yield f"no p50 ms of {count:,} of {counted(len(timings.files), 'file')}: {reason}"


def failures(sweep: SweepJson) -> Iterator[str]:
    """Why trials failed, every reason once with its trials."""
    return grouped((trial.name, trial.failure.reason) for trial in sweep.trials if trial.failure is not None)
