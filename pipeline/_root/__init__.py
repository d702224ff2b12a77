"""rexnet-export: ship a trained ReXNet to phones and boards in INT8, every artifact executed and measured."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rexnet_export.pipeline.export.report import Report

__all__ = ["__version__", "export"]
__version__ = version("rexnet-export")


def export(
    checkpoint: str | Path | None = None, *, targets: str | list[str] | None = None, **options: object
) -> Report:
    """Export a checkpoint (default: the bundled one) and return the report that `report.json` holds.

    `targets` are names as after `--target` (default all); other keywords are the fields of
    `pipeline.export.options.Options`, for example `precision="int8"`, `calibration_data=...`, `output=...`. Raises the
    errors of `pipeline.core.errors`; prints nothing of its own.
    """
    # Imported here so that `import rexnet_export` stays instant: torch alone takes seconds.
    from rexnet_export.apps.export.report_page import render  # noqa: PLC0415
    from rexnet_export.pipeline.core.progress import Silent  # noqa: PLC0415
    from rexnet_export.pipeline.export import export as run  # noqa: PLC0415
    from rexnet_export.pipeline.export.options import Options, from_mapping  # noqa: PLC0415
    from rexnet_export.targets import chosen  # noqa: PLC0415

    given = dict(options)
    if checkpoint is not None:
        given["checkpoint"] = checkpoint
    if targets is not None:
        given["target"] = targets
    settled = Options(**from_mapping(given, "export()"))
    return run.export(settled, chosen(settled.target, settled.precision), Silent(), render)
