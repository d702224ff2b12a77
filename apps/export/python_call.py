"""`rexnet_export.export(...)`: the export as a Python call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path

from rexnet_export.apps.export.make_export import make_export
from rexnet_export.apps.export.npu.asked import asked_chips
from rexnet_export.apps.export.npu.chips import Chip
from rexnet_export.apps.export.npu.compile_all import compile_all, shortcoming
from rexnet_export.apps.export.npu.environment import Environment, find_for
from rexnet_export.pipeline.artifact.signature import signer
from rexnet_export.pipeline.core.errors import UsageError
from rexnet_export.pipeline.core.files import compiled_folder
from rexnet_export.pipeline.core.meant import did_you_mean
from rexnet_export.pipeline.core.progress import Progress, Silent, Step, Told
from rexnet_export.pipeline.export.options import Options, from_mapping
from rexnet_export.pipeline.report.report import Report

NAMED = ("checkpoint", "targets", "progress", "sign", "npu")  # what `rexnet_export.export` itself names


def run(
    checkpoint: str | Path | None,
    targets: str | list[str] | None,
    progress: Callable[[Step], object] | None,
    sign: str | Path | None,
    npu: str | Sequence[str] | None,
    options: Mapping[str, object],
) -> Report:
    """Export with these fields of `Options`, signed where a key is named; what is None stands at its default.

    For the chips of `npu` its `.tflite` is compiled afterwards; one that cannot be raises when all is published.
    """
    fields_known = {each.name for each in fields(Options)}
    for name in options.keys() - fields_known:
        keywords = (*NAMED, *sorted(fields_known - {"checkpoint", "target"}))
        hint = did_you_mean(name, keywords) or f"known: {', '.join(keywords)}"
        raise UsageError(f"export(): unknown key {name!r}; {hint}")
    named = {"checkpoint": checkpoint, "target": targets}
    given = {**options, **{name: value for name, value in named.items() if value is not None}}
    settled = Options(**from_mapping(given, "export()"))
    chips = asked_chips(npu if npu is None or isinstance(npu, str) else ",".join(npu), settled, "npu")
    compilers = find_for(chips) if chips else None
    told = Told(progress) if progress else Silent()
    report = make_export(settled, told, signer(Path(sign)) if sign else None)
    if compilers is not None:
        _compile(report.targets["tflite"].artifact.file.path, chips, compilers, told)
    return report


def _compile(path: Path, chips: Sequence[Chip], compilers: Environment, progress: Progress) -> None:
    output = path.with_name(compiled_folder(path.name))
    if wrong := shortcoming(*compile_all(path, chips, compilers, output, progress), output):
        raise wrong
