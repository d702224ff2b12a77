"""`rexnet_export.export(...)`: the export as a Python call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from rexnet_export.apps.export.make_export import make_export
from rexnet_export.pipeline.artifact.signature import signer
from rexnet_export.pipeline.core.progress import Silent, Step, Told
from rexnet_export.pipeline.export.options import Options, from_mapping
from rexnet_export.pipeline.report.report import Report


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
    told = Told(progress) if progress else Silent()
    return make_export(settled, told, signer(Path(sign)) if sign else None)
