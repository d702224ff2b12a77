"""The quantization table that images decide, and the float graph it is for; nothing is written."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from rexnet_export.pipeline.core.errors import DataError
from rexnet_export.pipeline.core.progress import Progress, counted
from rexnet_export.pipeline.core.records import Preprocess
from rexnet_export.pipeline.data.selection import Images
from rexnet_export.pipeline.data.sources import batches, images_sha256
from rexnet_export.pipeline.export.max_drop import judges_for
from rexnet_export.pipeline.export.options import FAST, HIGH, Options
from rexnet_export.pipeline.machine.environment import usable_cores
from rexnet_export.pipeline.machine.shared_work import SharedWork
from rexnet_export.quantization.calibration.check import check_images, check_statistics
from rexnet_export.quantization.calibration.observe import TensorStatistics, observe
from rexnet_export.quantization.calibration.statistic_names import AUTO
from rexnet_export.quantization.calibration.stored_statistics import from_arrays, to_arrays
from rexnet_export.quantization.learned.adaround import learn_rounding
from rexnet_export.quantization.learned.logit_slopes import logit_slopes
from rexnet_export.quantization.onnx.simulate import Simulator, simulator
from rexnet_export.quantization.scheme.scheme import observed_tensors
from rexnet_export.quantization.search.search import (
    Draft,
    Evidence,
    corrected,
    equalized,
    grouped,
    judged,
    predicted,
    ranges_chosen,
    search,
)
from rexnet_export.quantization.table.table import Calibration, QuantTable

CALIBRATION_BATCH = 32
SAMPLE = 256  # images that are looked at, judged by, or corrected on; held in memory
FEWEST_JUDGES = 8
PLAIN = "min-max"
FEW_JUDGES = f"too few images to judge INT8 by ({{}}), so it is quantized as with --effort {FAST}"


@dataclass(frozen=True, kw_only=True)
class Searched:
    """The draft that a search ended with, and the judge that compared its logits with the float network's."""

    draft: Draft
    judge: Simulator


@dataclass(frozen=True, kw_only=True)
class FoundTable:
    """A table and the float graph it is for, rewritten or not; `held_back` are the images that set no range.

    `searched` is None where nothing was judged.
    """

    model: onnx.ModelProto
    table: QuantTable
    held_back: Images
    warnings: tuple[str, ...]
    searched: Searched | None


def find_table(
    model: onnx.ModelProto,
    images: Images,
    preprocess: Preprocess,
    options: Options,
    progress: Progress,
    work: SharedWork | None = None,
) -> FoundTable:
    """Decide every scale of a float graph from images, as hard as `--effort` says.

    Beyond `--effort fast` a third of the images set no range: they judge what the others propose. With `--max-drop`
    enough are held back to judge that as well. `work` is what other exports share.
    """
    judges = _judges(options, len(images.indices))
    held = judges_for(options.max_drop, judges, len(images.indices))
    held_back = replace(images, indices=images.indices[len(images.indices) - held :])
    seen = replace(images, indices=images.indices[: len(images.indices) - held])
    sample = pixels(seen, preprocess, SAMPLE)
    few = [] if judges or options.effort == FAST else [FEW_JUDGES.format(len(images.indices))]
    looked_at = check_images(sample, [seen.source.ids[index] for index in seen.indices[:SAMPLE]], preprocess)
    warnings = _noted(progress, [*few, *looked_at])
    statistic = options.statistic or (AUTO if judges else PLAIN)
    calibration = Calibration(
        images_sha256=images_sha256(images.source, images.indices),
        images=len(images.indices),
        statistic=statistic,
        seed=options.seed,
    )
    observed, searched = partial(_observed, seen, preprocess, progress, work), None
    if judges:
        evidence = Evidence(
            observe=observed,
            slopes=lambda graph, statistics: logit_slopes(graph, statistics, sample),
            sample=sample,
            judge=simulator(model, pixels(held_back, preprocess, held)),
            calibration=calibration,
            plain=PLAIN if statistic == AUTO else statistic,
        )
        draft = _searched(model, evidence, options, progress)
        model, statistics, table = draft.model, draft.statistics, draft.table
        searched = Searched(draft=draft, judge=evidence.judge)
    else:
        model, statistics, table = predicted(model, observed, calibration)
    alike = {} if statistic == AUTO else dict.fromkeys(statistics, statistic)
    warnings += _noted(progress, check_statistics(statistics, alike))
    return FoundTable(model=model, table=table, held_back=held_back, warnings=warnings, searched=searched)


def pixels(images: Images, preprocess: Preprocess, count: int) -> NDArray[np.uint8]:
    """The first `count` of the images, uint8 [n, S, S, 3]."""
    chosen = images.indices[:count]
    return np.concatenate(list(batches(images.source, preprocess, chosen, CALIBRATION_BATCH)))


def _searched(model: onnx.ModelProto, evidence: Evidence, options: Options, progress: Progress) -> Draft:
    """The draft after all steps that the effort and the statistic ask for."""
    steps = [equalized, grouped, *([] if options.statistic not in {None, AUTO} else [ranges_chosen]), corrected]
    with progress.stage("choosing", len(steps) + 1, "steps") as bar:
        draft = search(model, evidence, steps, lambda name: bar.advance(1, name.replace("_", " ")))
    if options.effort != HIGH:
        return draft
    table = learn_rounding(draft.model, draft.table, evidence.sample, progress)
    return judged(draft, table, evidence.judge, "rounding learned")


def _observed(
    images: Images, preprocess: Preprocess, progress: Progress, work: SharedWork | None, model: onnx.ModelProto
) -> dict[str, TensorStatistics]:
    """What every tensor of a float graph was over the images; found once where work is shared."""
    if work is None:
        return _statistics(images, preprocess, progress, model)
    graph = hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()
    chosen = images_sha256(images.source, images.indices)
    key = ["statistics", graph, chosen, repr(preprocess), f"{usable_cores()} threads"]
    return from_arrays(work.once(key, lambda: to_arrays(_statistics(images, preprocess, progress, model))))


def _statistics(
    images: Images, preprocess: Preprocess, progress: Progress, model: onnx.ModelProto
) -> dict[str, TensorStatistics]:
    ids = [images.source.ids[index] for index in images.indices]
    with tempfile.TemporaryDirectory() as folder, progress.stage("calibrating", len(ids), "images") as bar:
        path = Path(folder) / "observed.onnx"
        path.write_bytes(model.SerializeToString(deterministic=True))
        shown = counted(batches(images.source, preprocess, images.indices, CALIBRATION_BATCH), bar)
        return observe(path, shown, observed_tensors(model), ids=ids)


def _judges(options: Options, images: int) -> int:
    """How many of the images are held back; none where nothing is to be judged."""
    count = min(SAMPLE, images // 3)
    if options.effort == FAST and options.statistic != AUTO:
        return 0
    if count >= FEWEST_JUDGES:
        return count
    if options.statistic == AUTO or options.effort == HIGH:
        asked = f"--statistic {AUTO}" if options.statistic == AUTO else f"--effort {HIGH}"
        raise DataError(
            f"{asked} keeps a third of the calibration images back to judge by, and {images} are too few: give "
            f"{3 * FEWEST_JUDGES} or more"
        )
    return 0


def _noted(progress: Progress, warnings: Sequence[str]) -> tuple[str, ...]:
    """Say the warnings before minutes are spent on what they warn of."""
    for warning in warnings:
        progress.note(f"calibration: {warning}")
    return tuple(warnings)
