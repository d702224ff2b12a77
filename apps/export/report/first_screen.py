"""What the report's first screen says: the files with their figures, and what each is for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rexnet_export.apps.export.summary_table import COLUMNS, cells, files
from rexnet_export.pipeline.accuracy.paired_statistics import share_limits
from rexnet_export.pipeline.artifact.metadata import danger
from rexnet_export.pipeline.core.records import NotMeasured
from rexnet_export.pipeline.proof.results import FileResult
from rexnet_export.pipeline.report.report import Report

TOP1 = COLUMNS.index("top-1") - 1  # among the cells of a file, which come after its target
HEAD = (*COLUMNS[: TOP1 + 1], "top-1 (95\N{NO-BREAK SPACE}%)", *COLUMNS[TOP1 + 2 :])
# By the names that files have in a report: targets, and their presets. Other packages' targets say it themselves.
USES: Mapping[str, str] = {
    "coreml": "iPhone, iPad and Mac",
    "tflite": "Android, and boards with LiteRT",
    "ort": "ARM phones and boards, with ONNX Runtime",
    "ort x86": "PCs and servers, with ONNX Runtime",
    "ort vnni": "PCs and servers whose processor has VNNI, with ONNX Runtime",
    "ort npu": "NPUs that ONNX Runtime has a provider for",
    "gpu": "GPUs, with torch: the float reference",
    "openvino": "Intel's PCs and edge boxes, with OpenVINO",
}

# What a file that is run elsewhere does, where that is a wrong answer without an error.
DANGERS: Mapping[str, str] = {"ort vnni": danger("VNNI")}


def rows(report: Report) -> Iterator[tuple[str, ...]]:
    """The cells of every file, in the order of `HEAD`."""
    for name, file in files(report):
        figures = list(cells(file))
        figures[TOP1] += _limits(file)
        yield name, *figures


def uses(report: Report) -> Iterator[tuple[str, str]]:
    """Where to run what: a file for each kind of device, with what goes wrong on others."""
    for name, file in files(report):
        if name in USES:
            danger = f"; {DANGERS[name]}" if name in DANGERS else ""
            yield USES[name], f"{file.file.path.name}{danger}"


def _limits(file: FileResult) -> str:
    if isinstance(file.accuracy, NotMeasured):
        return ""
    n = file.accuracy.n
    lower, upper = share_limits(round(file.accuracy.top1 * n), n)
    return f" ({100 * lower:.1f}\N{EN DASH}{100 * upper:.1f})"
