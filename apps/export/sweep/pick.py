"""Which file of a sweep to ship: the fastest that is shown to keep a bound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rexnet_export.apps.export.sweep.findings import SIGNIFICANT, Counts, corrected_p
from rexnet_export.apps.export.sweep.sweep_json import (
    SWEEP_FILE,
    TIMINGS_FILE,
    AgainstBest,
    FileRow,
    SweepJson,
    TimingsJson,
)
from rexnet_export.pipeline.accuracy.paired_statistics import lower_limit
from rexnet_export.pipeline.core.errors import ConversionError, GateFailed, Inconclusive, UsageError
from rexnet_export.pipeline.core.records import NotMeasured, stored_file
from rexnet_export.pipeline.core.untrusted import read_untrusted

MOST_BYTES = 2**28


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A file, what it loses against the best float network (fractions), and what it costs.

    `p` is of "it loses the bound or more", corrected for all candidates.
    """

    trial: str
    file: str
    sha256: str
    bytes: int
    p50_ms: float | None
    drop: float
    drop_upper_95: float
    p: float
    surely_above: bool


def read_sweep(folder: Path) -> tuple[SweepJson, TimingsJson | None]:
    """A sweep's records; without timings, files are told apart by their size."""
    try:
        sweep = SweepJson.parse(read_untrusted(folder / SWEEP_FILE, MOST_BYTES))
        timings = folder / TIMINGS_FILE
        return sweep, TimingsJson.parse(read_untrusted(timings, MOST_BYTES)) if timings.exists() else None
    except OSError as error:
        raise UsageError(
            f"{folder} holds no {SWEEP_FILE} ({error.strerror}): name a finished sweep's folder"
        ) from error
    except ConversionError as error:
        raise ConversionError(f"{folder}: a record is damaged: {error}; go on with the sweep's --resume") from error


def candidates(sweep: SweepJson, timings: TimingsJson | None, name: str, bound: float) -> list[Candidate]:
    """All files of this name (a target, or `target preset`), held against a bound (fraction)."""
    names = sorted({row.name for trial in sweep.trials for row in trial.files})
    if name not in names:
        raise UsageError(f"--target {name}: the sweep has no such file; it has {', '.join(names) or 'none at all'}")
    files = [(trial, row) for trial in sweep.trials for row in trial.files if row.name == name]
    judged = [(trial, row, row.against_best) for trial, row in files if isinstance(row.against_best, AgainstBest)]
    if not judged:
        reason = next(r.against_best.reason for _, r in files if isinstance(r.against_best, NotMeasured))
        raise Inconclusive(f"no file for {name} can be held against --max-drop: {reason}")
    counted = [Counts(worse=best.worse, better=best.better, images=_images(row, sweep)) for _, row, best in judged]
    return [
        Candidate(
            trial=trial.name,
            file=row.file,
            sha256=row.sha256,
            bytes=row.bytes,
            p50_ms=_time(timings, row.file),
            drop=best.drop,
            drop_upper_95=best.drop_upper_95,
            p=p,
            surely_above=lower_limit(count.worse, count.better, count.images) > bound,
        )
        for (trial, row, best), count, p in zip(judged, counted, corrected_p(counted, bound), strict=True)
    ]


def _images(row: FileRow, sweep: SweepJson) -> int:
    """What a file was compared on."""
    return sweep.images if isinstance(row.accuracy, NotMeasured) else row.accuracy.n


def _time(timings: TimingsJson | None, file: str) -> float | None:
    timed = None if timings is None else timings.files.get(file)
    return None if timed is None or isinstance(timed, NotMeasured) else timed.p50_ms


def picked(found: Sequence[Candidate], bound: float) -> Candidate:
    """The fastest candidate that is shown to lose less than the bound; where not all were timed, the smallest.

    `GateFailed` where all are shown to lose more, `Inconclusive` where the images cannot tell.
    """
    kept = [each for each in found if each.p < SIGNIFICANT]
    if kept:
        timed = all(each.p50_ms is not None for each in kept)
        return min(kept, key=lambda each: ((each.p50_ms or 0.0) if timed else each.bytes, each.bytes, each.trial))
    nearest = min(found, key=lambda each: (each.drop_upper_95, each.trial))
    limits = f"drop {nearest.drop * 100:+.2f} points, at most {nearest.drop_upper_95 * 100:+.2f}"
    said = f"{nearest.trial} comes nearest: {limits}"
    if all(each.surely_above for each in found):
        raise GateFailed(f"every one of {len(found)} candidates loses more than {bound * 100:g} points; {said}")
    raise Inconclusive(
        f"none of {len(found)} candidates is shown to lose less than {bound * 100:g} points (p {nearest.p:.2g}, "
        f"corrected for all); {said}: evaluate on more images, or allow more"
    )


def require_same(folder: Path, chosen: Candidate) -> Path:
    """The file as it lies there, which must be the one that was measured."""
    path = folder / chosen.file
    try:
        same = stored_file(path).sha256 == chosen.sha256
    except OSError as error:
        raise ConversionError(f"{path} cannot be read ({error.strerror}): make it again with --resume") from error
    if not same:
        raise ConversionError(f"{path} is not what was measured: make it again with --resume")
    return path
