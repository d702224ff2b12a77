"""How fast the files of a sweep are: on this machine, one at a time, in turns, when nothing else of the sweep runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rexnet_export.apps.export.sweep.findings import front
from rexnet_export.apps.export.sweep.sweep_json import FileRow, SweepJson, TimedRow, TimingsJson
from rexnet_export.pipeline.artifact.metadata import card_from
from rexnet_export.pipeline.core.errors import ExportError, InvalidMeasurement
from rexnet_export.pipeline.core.progress import Progress
from rexnet_export.pipeline.core.records import Measurement, NotMeasured
from rexnet_export.pipeline.core.reproducible import LEFT_OUT, is_reproducible
from rexnet_export.pipeline.machine.environment import processor
from rexnet_export.pipeline.proof.latency import KERNEL, require_quiet
from rexnet_export.pipeline.timing.blocks import turns
from rexnet_export.pipeline.timing.summary import median, quantile
from rexnet_export.targets.isolation.isolated_file import IsolatedFile

PASSES, DROPPED, COUNTED = 5, 5, 20  # blocks of a file, and in each the runs that do not count and those that do
MILLISECOND = 1e6  # nanoseconds


@dataclass(frozen=True, kw_only=True)
class _Block:
    """Nanoseconds of each run, how many of them waited, and the reference kernel before and after them."""

    spent: tuple[int, ...]
    waited: int
    kernels: tuple[int, int]


def timed(sweep: SweepJson, folder: Path, progress: Progress) -> TimingsJson:
    """Time every file: `PASSES` blocks each, and between two of a file one of every other, in random order.

    What slows the machine for a while then slows all of them. A file is open only while it is timed, so memory does
    not grow with their number. On a busy machine there is a reason in place of every time, as in an export.
    """
    files = {row.file: row for trial in sweep.trials for row in trial.files}
    blocks: dict[str, list[_Block]] = defaultdict(list)
    images: dict[str, NDArray[np.uint8]] = {}
    unmeasured: dict[str, NotMeasured] = dict.fromkeys(files, LEFT_OUT) if is_reproducible() else {}
    with progress.stage("timing", PASSES * len(files), "blocks") as bar:
        for _, order in zip(range(PASSES), turns(list(files), seed=0), strict=False):
            for name in order:
                if name not in unmeasured:
                    block = _block(folder / name, name, images)
                    if isinstance(block, NotMeasured):
                        unmeasured[name] = block
                    else:
                        blocks[name].append(block)
                bar.advance()
    spent = {name: [run for block in each for run in block.spent] for name, each in blocks.items()}
    if (busy := _trouble([block for each in blocks.values() for block in each])) is not None:
        unmeasured = {name: unmeasured.get(name, busy) for name in files}
    comparable = [row for name, row in files.items() if name not in unmeasured] if sweep.images else []
    fastest = _fronts(comparable, spent)
    rows: dict[str, Measurement[TimedRow]] = {
        name: unmeasured[name]
        if name in unmeasured
        else TimedRow(
            p50_ms=round(median(spent[name]) / MILLISECOND, 4),
            p90_ms=round(quantile(spent[name], 0.9) / MILLISECOND, 4),
            n=len(spent[name]),
            on_speed_front=name in fastest,
        )
        for name in files
    }
    return TimingsJson(machine=processor(), files=rows)


def _trouble(blocks: Sequence[_Block]) -> NotMeasured | None:
    """Why no time is to be trusted, if none is."""
    runs = sum(len(block.spent) for block in blocks)
    try:
        if blocks:
            require_quiet(sum(block.waited for block in blocks) / runs, [block.kernels for block in blocks], "blocks")
    except InvalidMeasurement as error:
        return NotMeasured(reason=str(error))
    return None


def _block(path: Path, name: str, images: dict[str, NDArray[np.uint8]]) -> _Block | NotMeasured:
    """One block, or why there is none; `images` keeps the image of noise for each file."""
    try:
        with IsolatedFile(path) as file:
            if not file.timed:
                return NotMeasured(reason=f"run by {file.executed_by}, whose speed is not a device's")
            if name not in images:
                images[name] = _image(file)
            before = _kernel(file)
            spent, waited = file.watch_block(images[name], dropped=DROPPED, counted=COUNTED)
            return _Block(spent=spent, waited=waited, kernels=(before, _kernel(file)))
    except ExportError as error:
        return NotMeasured(reason=str(error))


def _image(file: IsolatedFile) -> NDArray[np.uint8]:
    """Noise [1, H, W, C] of the size that the file takes."""
    preprocess = card_from(file.inspect().metadata).preprocess
    shape = (1, *preprocess.shape, preprocess.channels)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def _kernel(file: IsolatedFile) -> int:
    return file.time_kernel(dropped=2, counted=KERNEL)


def _fronts(rows: Sequence[FileRow], spent: dict[str, list[int]]) -> set[Hashable]:
    families: dict[str, list[tuple[Hashable, float, float]]] = defaultdict(list)
    for row in rows:
        if row.top1_of_all is not None:
            families[row.name].append((row.file, row.top1_of_all, median(spent[row.file])))
    return {key for family in families.values() for key in front(family)}
