"""`rexnet_export.export(...)`: the export as a Python call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from rexnet_export.apps.export.report.page import render
from rexnet_export.pipeline.artifact.signature import signer
from rexnet_export.pipeline.core.progress import Silent, Step, Told
from rexnet_export.pipeline.export.export import export
from rexnet_export.pipeline.export.options import Options, from_mapping
from rexnet_export.pipeline.report.report import Report
from rexnet_export.targets import chosen


def run(
    checkpoint: str | Path | None,
    targets: str | list[str] | None,
    progress: Callable[[Step], object] | None,
    sign: str | Path | None,
    options: Mapping[str, object],
) -> Report:
    """Export with these fields of `Options`, signed where a key is named; what is None stands at its default."""
    named = {"checkpoint": checkpoint, "target": targets}
    given = {**options, **{name: value for name, value in named.items() if value is not None}}
    settled = Options(**from_mapping(given, "export()"))
    targeted = chosen(settled.target, settled.precision)
    told = Told(progress) if progress else Silent()
    return export(settled, targeted, told, render, signer(Path(sign)) if sign else None)
