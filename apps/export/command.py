"""`rexnet-export`: turn a trained ReXNet into artifacts for its targets, execute them, and say what they cost."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields

from rexnet_export.apps.export import backbone_command as backbone
from rexnet_export.apps.export import verify_command as verify
from rexnet_export.apps.export.options import add_flags, options_from
from rexnet_export.apps.shared.terminal import Terminal, run_parsed
from rexnet_export.pipeline.export.options import Options

PROGRAM = "rexnet-export"
VERIFY = "verify"
DESCRIPTION = """Convert a trained ReXNet to Core ML, TFLite and ONNX Runtime mobile, quantize it to INT8 with
calibration, execute every artifact and report accuracy and latency beside the float network. Without options the
bundled checkpoint and images are used."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    given = sys.argv[1:] if argv is None else argv
    if list(given[:1]) == [VERIFY]:
        return verify.main(given[1:])
    if list(given[:1]) == [backbone.BACKBONE]:
        return backbone.main(given[1:])
    return run_parsed(PROGRAM, parser, given, _export)


def parser() -> argparse.ArgumentParser:
    """The command line: one flag for each field of `Options`, and how to show the result."""
    from rexnet_export.targets import TARGETS  # noqa: PLC0415 - keeps this module's import light

    p = argparse.ArgumentParser(
        prog=PROGRAM,
        description=DESCRIPTION,
        epilog=f"`{PROGRAM} {VERIFY} FILE|DIR ...` proves finished artifacts again, `{PROGRAM} {backbone.BACKBONE}` "
        "exports the network without its head; both have a --help.",
        argument_default=argparse.SUPPRESS,
    )
    add_flags(p, Options(), {option.name: option.metadata["help"] for option in fields(Options)}, list(TARGETS))
    p.add_argument("--json", action="store_true", default=False, help="print report.json instead of the table")
    return p


def _export(arguments: argparse.Namespace, terminal: Terminal) -> None:
    options = options_from(arguments, Options())
    # Imported late: torch alone takes seconds, and --help and a wrong flag should not wait for it.
    from rexnet_export.apps.export.report_page import render  # noqa: PLC0415
    from rexnet_export.apps.export.summary_table import table  # noqa: PLC0415
    from rexnet_export.pipeline.export.export import export  # noqa: PLC0415
    from rexnet_export.targets import chosen  # noqa: PLC0415

    report = export(options, chosen(options.target, options.precision), terminal, render)
    if arguments.json:
        terminal.json(report.to_json())
    elif not arguments.quiet:
        terminal.out.print(table(report))
        terminal.out.print(f"{options.output}/  report.html, report.json, manifest.json", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
