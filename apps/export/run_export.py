"""What `rexnet-export` does, and prints of it."""

from __future__ import annotations

import argparse

from rexnet_export.apps.export.options import options_from
from rexnet_export.apps.export.report_page import render
from rexnet_export.apps.export.summary_table import table
from rexnet_export.apps.shared.terminal import Terminal
from rexnet_export.pipeline.export import export as loop
from rexnet_export.pipeline.export.options import Options
from rexnet_export.targets import chosen


def export(arguments: argparse.Namespace, terminal: Terminal) -> None:
    """Export, and show the report."""
    options = options_from(arguments, Options())

    report = loop.export(options, chosen(options.target, options.precision), terminal, render)
    if arguments.json:
        terminal.json(report.to_json())
    elif not arguments.quiet:
        terminal.out.print(table(report))
        terminal.out.print(f"{options.output}/  report.html, report.json, manifest.json", soft_wrap=True)
