"""The one place that knows what `--checkpoint` may be: weights, or a finished export to make further targets of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rexnet_export.apps.export.options import GPU
from rexnet_export.apps.export.report.page import render
from rexnet_export.pipeline.artifact.signature import Sign
from rexnet_export.pipeline.artifact.target import Target
from rexnet_export.pipeline.checkpoint.reference import export_at
from rexnet_export.pipeline.core.errors import UsageError
from rexnet_export.pipeline.core.extras import require_module
from rexnet_export.pipeline.core.progress import Progress
from rexnet_export.pipeline.export.options import Options
from rexnet_export.pipeline.export.possible import require_paths, require_targets
from rexnet_export.pipeline.report.report import Report
from rexnet_export.targets import ALL, chosen


def make_export(
    options: Options, progress: Progress, sign: Sign | None = None, begin: Callable[[], None] = lambda: None
) -> Report:
    """Export a checkpoint, or further targets of a finished export, which needs no torch.

    `begin` is called once what can be refused at once has not been, before torch is loaded.
    """
    require_paths(options)
    folder = export_at(options.checkpoint)
    if folder is not None:
        targets = _of_graphs(options, folder, progress)
        require_targets(targets, options.precision)
        from rexnet_export.pipeline.finished.earlier import require_undecided  # noqa: PLC0415 - the other way needs
        from rexnet_export.pipeline.finished.further import export_further  # noqa: PLC0415 - none of it

        require_undecided(options, folder)
        begin()
        return export_further(folder, options, targets, progress, render, sign)
    require_module("torch", "an export")
    targets = chosen(options.target, options.precision)
    require_targets(targets, options.precision)
    begin()
    from rexnet_export.pipeline.export.export import export  # noqa: PLC0415 - torch takes seconds

    return export(options, targets, progress, render, sign)


def _of_graphs(options: Options, folder: Path, progress: Progress) -> list[Target]:
    """The targets that are asked for, but for torch's own, which is written from weights."""
    if GPU in options.target:
        raise UsageError(
            f"--target {GPU}: it is written from weights, and {folder} is a finished export; name the checkpoint, or "
            "other targets"
        )
    if ALL in options.target:
        progress.note(f"left out, as it is written from weights: {GPU}")
    return chosen(options.target, options.precision, without=(GPU,))
