"""What `rexnet-export` does, and prints of it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from rexnet_export.apps.export.accuracy_verdict import accuracy_verdicts
from rexnet_export.apps.export.make_export import make_export
from rexnet_export.apps.export.npu.environment import find_for
from rexnet_export.apps.export.npu.run_npu import run_beside
from rexnet_export.apps.export.options import COREML
from rexnet_export.apps.export.report.classes import class_warnings
from rexnet_export.apps.export.report.noise import noise_notes
from rexnet_export.apps.export.summary_table import files, table
from rexnet_export.apps.shared.terminal import Terminal
from rexnet_export.apps.shared.text import counted, done
from rexnet_export.pipeline.artifact.signature import signer
from rexnet_export.pipeline.export.options import Options
from rexnet_export.pipeline.report.report import Report
from rexnet_export.targets import ALL, lacking
from rexnet_export.targets.isolation.preloading import preload


def export(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Export, show the report, and compile for the NPUs that were asked for, whose compilers are looked for first."""
    options: Options = arguments.options
    if lack := lacking(options.target, options.precision):
        terminal.note(f"left out, as they have no {options.precision}: {', '.join(lack)}")
    sign = signer(arguments.sign) if arguments.sign else None
    compilers = find_for(arguments.chips) if arguments.chips else None

    def begin() -> None:
        if {COREML, ALL} & set(options.target):
            preload(COREML)  # this process is ours: its tools may come without the frameworks that they convert from

    report = make_export(options, terminal, sign, begin)
    if arguments.json:
        terminal.json(report.to_json())
    elif not arguments.quiet:
        terminal.out.print(table(report))
        terminal.out.print("\n".join(_last(report, ends=compilers is None)), soft_wrap=True)
    if compilers is None:
        return 0
    portable, table_too = report.targets["tflite"].artifact.file.path, not (arguments.json or arguments.quiet)
    return run_beside(portable, arguments.chips, compilers, terminal, table=table_too)


def _last(report: Report, *, ends: bool) -> Iterator[str]:
    """What was found of the accuracy, and the files; that all is done, where the command `ends` here."""
    yield from (sentence for _, sentence in accuracy_verdicts(report))
    yield from class_warnings(report)
    yield from noise_notes(report)
    made = f"{counted(sum(1 for _ in files(report)), 'file')} in {report.output}/"
    where = "its report.html has all that was measured"
    yield done(made, where) if ends else f"{made}; {where}"
