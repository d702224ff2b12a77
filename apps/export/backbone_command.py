"""`rexnet-export backbone`: the network without its head, for detectors, on every mobile target."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from rexnet_export.apps.export.options import add_flags, options_from
from rexnet_export.apps.export.summary_table import files
from rexnet_export.apps.shared.terminal import Terminal, run_parsed
from rexnet_export.apps.shared.text import DASH, int8_share, shown
from rexnet_export.pipeline.core.errors import UsageError
from rexnet_export.pipeline.core.records import NotMeasured
from rexnet_export.pipeline.export.options import Options

if TYPE_CHECKING:
    from rich.table import Table

    from rexnet_export.pipeline.export.report import Report
    from rexnet_export.pipeline.proof.results import FileResult

BACKBONE = "backbone"
GPU = "gpu"  # torch itself: no target of a backbone
PROGRAM = f"rexnet-export {BACKBONE}"
DEFAULTS = Options(output=Path("rexnet-backbone-out"))
REFUSED = frozenset({"labels", "class_order", "eval_labels", "max_drop"})
TEXTS = {"eval_data": "folder of images, with or without classes"}
DESCRIPTION = """Convert the network without its head: feature maps at strides 4, 8, 16 and 32 as outputs, for
detectors. Quantized and executed like the classifier; each output is compared with the float network's."""


def main(argv: Sequence[str]) -> int:
    """Run the subcommand; returns the exit code."""
    return run_parsed("rexnet-export", parser, argv, _export)


def parser() -> argparse.ArgumentParser:
    """The export's command line, as far as it goes for a backbone."""
    from rexnet_export.targets import TARGETS  # noqa: PLC0415 - keeps this module's import light

    p = argparse.ArgumentParser(prog=PROGRAM, description=DESCRIPTION, argument_default=argparse.SUPPRESS)
    texts = {option.name: option.metadata["help"] for option in fields(Options) if option.name not in REFUSED}
    add_flags(p, DEFAULTS, texts | TEXTS, [name for name in TARGETS if name != GPU])
    p.add_argument("--json", action="store_true", default=False, help="print backbone.json instead of the table")
    return p


def _export(arguments: argparse.Namespace, terminal: Terminal) -> None:
    from rexnet_export.pipeline.export.export import export_backbone  # noqa: PLC0415 - imports torch
    from rexnet_export.targets import chosen  # noqa: PLC0415

    options = options_from(arguments, DEFAULTS)
    if GPU in options.target:
        raise UsageError("--target gpu: in torch it is pipeline.model.backbone.Backbone of the checkpoint itself")
    targets = [target for target in chosen(options.target, options.precision) if target.name != GPU]
    report = export_backbone(options, targets, terminal)
    if arguments.json:
        terminal.json(report.to_json())
    elif not arguments.quiet:
        terminal.out.print(table(report))
        terminal.out.print(f"{options.output}/  backbone.json, manifest.json", soft_wrap=True)


def table(report: Report) -> Table:
    """One row per file: SQNR of each output, and the time of one image."""
    from rich import box  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    title = f"{report.card.name}: SQNR in dB against {report.reference.executed_by}, {report.reference.n:,} images"
    grid = Table(title=title, box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    for column in ("target", "file", "MB", *(f"stride {f.stride}" for f in report.card.features), "p50 ms", "INT8"):
        grid.add_column(column, justify="left" if column in {"target", "file"} else "right", overflow="fold")
    for name, file in files(report):
        latency, share = shown(file.latency, lambda latency: f"{latency.p50_ms:.2f}"), shown(file.coverage, int8_share)
        size = f"{file.file.bytes / 1e6:.1f}"
        grid.add_row(name, file.file.path.name, size, *levels(file, len(report.card.features)), latency, share)
    return grid


def levels(file: FileResult, outputs: int) -> list[str]:
    """SQNR of every output as text; a dash where the file was not executed, or nothing differs."""
    if isinstance(file.outputs, NotMeasured):
        return [DASH] * outputs
    return [shown(each.sqnr_db, lambda level: f"{level:.1f}") for each in file.outputs]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
