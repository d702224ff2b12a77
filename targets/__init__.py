"""Deployment targets, one per file; `TARGETS` is the one list of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rexnet_export.pipeline.artifact.target import Target
from rexnet_export.pipeline.core.errors import UsageError
from rexnet_export.pipeline.core.records import Precision
from rexnet_export.targets.coreml.target import CoreML
from rexnet_export.targets.gpu.target import Gpu
from rexnet_export.targets.ort.target import Ort
from rexnet_export.targets.tflite.target import Tflite

TARGETS: Mapping[str, Target] = {target.name: target for target in (CoreML(), Tflite(), Ort(), Gpu())}
ALL = "all"


def chosen(names: Sequence[str], precision: Precision) -> list[Target]:
    """The targets of these names in the table's order, each once; `all` means every one that has the precision."""
    unknown = sorted(set(names) - {*TARGETS, ALL})
    if unknown:
        raise UsageError(f"--target {unknown[0]!r}: choose one of {', '.join([*TARGETS, ALL])}")
    return [
        target for name, target in TARGETS.items() if name in names or (ALL in names and precision in target.precisions)
    ]
