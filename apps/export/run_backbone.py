"""What `rexnet-export backbone` does, and prints of it."""

from __future__ import annotations

import argparse

from rexnet_export.apps.export.npu.environment import find_for
from rexnet_export.apps.export.npu.run_npu import run_beside
from rexnet_export.apps.export.options import COREML, GPU
from rexnet_export.apps.export.summary_table import files
from rexnet_export.apps.shared.terminal import Terminal
from rexnet_export.apps.shared.terminal_table import Column, FittedTable
from rexnet_export.apps.shared.text import DASH, counted, done, int8_share, shown
from rexnet_export.pipeline.artifact.signature import signer
from rexnet_export.pipeline.core.extras import require_module
from rexnet_export.pipeline.core.records import NotMeasured
from rexnet_export.pipeline.export.options import Options
from rexnet_export.pipeline.export.possible import require_paths, require_targets
from rexnet_export.pipeline.proof.results import FileResult
from rexnet_export.pipeline.report.report import Report
from rexnet_export.targets import chosen, lacking
from rexnet_export.targets.isolation.preloading import preload


def export(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Export the network without its head, show each output's noise, and compile for the NPUs that were asked for."""
    options: Options = arguments.options
    if lack := [name for name in lacking(options.target, options.precision) if name != GPU]:
        terminal.note(f"left out, as they have no {options.precision}: {', '.join(lack)}")
    require_paths(options)
    targets = [target for target in chosen(options.target, options.precision) if target.name != GPU]
    sign = signer(arguments.sign) if arguments.sign else None
    compilers = find_for(arguments.chips) if arguments.chips else None
    require_module("torch", "an export")
    require_targets(targets, options.precision)
    if any(target.name == COREML for target in targets):
        preload(COREML)  # as in `run_export`
    from rexnet_export.pipeline.export.export import export_backbone  # noqa: PLC0415 - torch takes seconds

    report = export_backbone(options, targets, terminal, sign)
    if arguments.json:
        terminal.json(report.to_json())
    elif not arguments.quiet:
        terminal.out.print(table(report))
    made = counted(sum(1 for _ in files(report)), "file")
    proof = f"prove them again: rexnet-export verify {options.output}"
    where = f"{made} in {options.output}/; its backbone.json has all that was measured"
    if compilers is None:
        terminal.note(done(where, proof))
        return 0
    terminal.note(f"{where}; {proof}")
    portable, table_too = report.targets["tflite"].artifact.file.path, not (arguments.json or arguments.quiet)
    return run_beside(portable, arguments.chips, compilers, terminal, table=table_too)


def table(report: Report) -> FittedTable:
    """One row per file: SQNR of each output, and the time of one image."""
    title = f"{report.card.name}: SQNR in dB against {report.reference.executed_by}, {report.reference.n:,} images"
    columns = [
        Column(title="target", left=True),
        Column(title="file", name=True),
        Column(title="MB", spare=1),
        *(Column(title=f"stride {feature.stride}") for feature in report.card.features),
        Column(title="p50 ms", spare=2),
        Column(title="INT8", spare=3),
    ]
    return FittedTable(title, columns, [_cells(name, file, len(report.card.features)) for name, file in files(report)])


def _cells(name: str, file: FileResult, outputs: int) -> list[str]:
    latency, share = shown(file.latency, lambda latency: f"{latency.p50_ms:.2f}"), shown(file.coverage, int8_share)
    return [name, file.file.path.name, f"{file.file.bytes / 1e6:.1f}", *levels(file, outputs), latency, share]


def levels(file: FileResult, outputs: int) -> list[str]:
    """SQNR of every output as text; a dash where the file was not executed, or nothing differs."""
    if isinstance(file.outputs, NotMeasured):
        return [DASH] * outputs
    return [shown(each.sqnr_db, lambda level: f"{level:.1f}") for each in file.outputs]
