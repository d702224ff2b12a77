"""`rexnet-export`: turn a trained ReXNet into artifacts for its targets, execute them, and say what they cost."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from rexnet_export.apps import backbone, verify
from rexnet_export.apps.terminal import Terminal, run_parsed
from rexnet_export.pipeline.options import Options, from_mapping, read_config
from rexnet_export.pipeline.records import Precision

PROGRAM = "rexnet-export"
VERIFY = "verify"
PRECISION_HELP: dict[Precision, str] = {
    "int8": "INT8 weights and activations (default)",
    "fp16": "float16 weights",
    "fp32": "float32 throughout",
}
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


def add_flags(p: argparse.ArgumentParser, defaults: Options, texts: Mapping[str, str], targets: Sequence[str]) -> None:
    """One flag for each field of `Options` and how to report; what has no text, or is no target, is not shown.

    It is accepted all the same: the command refuses it with its reason.
    """
    from rexnet_export.targets import TARGETS  # noqa: PLC0415 - keeps this module's import light

    p.add_argument("--config", type=Path, metavar="FILE", help="TOML file with the same options; flags win")
    for option in fields(Options):
        flag, text = f"--{option.name.replace('_', '-')}", texts.get(option.name)
        if option.name == "target":
            shown, known = f"{{{','.join([*targets, 'all'])}}}", [*TARGETS, "all"]
            p.add_argument(flag, action="append", choices=known, metavar=shown, help=f"{text} (default: all)")
        elif option.name == "precision":
            group = p.add_mutually_exclusive_group()
            for name, meaning in PRECISION_HELP.items():
                group.add_argument(f"--{name}", dest="precision", action="store_const", const=name, help=meaning)
        else:
            kind, value = _kind(str(option.type).split(" | ")), getattr(defaults, option.name)
            default = "" if value is None else f" (default: {value})"
            helped = argparse.SUPPRESS if text is None else text + default
            p.add_argument(flag, type=kind, metavar=option.metadata["metavar"], help=helped)
    p.add_argument("--quiet", action="store_true", default=False, help="no progress, no table")
    p.add_argument("--debug", action="store_true", default=False, help="show tracebacks")


def _kind(types: list[str]) -> type:
    """What a flag's text is made into; paths are made later."""
    return int if "int" in types else float if "float" in types else str


def options_from(arguments: argparse.Namespace, defaults: Options) -> Options:
    """Defaults, then the TOML file, then the flags."""
    given = {f.name: getattr(arguments, f.name) for f in fields(Options) if hasattr(arguments, f.name)}
    configured: dict[str, Any] = read_config(arguments.config) if hasattr(arguments, "config") else {}
    return replace(defaults, **configured | from_mapping(given, "command line"))


def _export(arguments: argparse.Namespace, terminal: Terminal) -> None:
    options = options_from(arguments, Options())
    # Imported late: torch alone takes seconds, and --help and a wrong flag should not wait for it.
    from rexnet_export.apps.page import render  # noqa: PLC0415
    from rexnet_export.apps.summary import table  # noqa: PLC0415
    from rexnet_export.pipeline.report import to_text  # noqa: PLC0415
    from rexnet_export.pipeline.run import export  # noqa: PLC0415
    from rexnet_export.targets import chosen  # noqa: PLC0415

    report = export(options, chosen(options.target, options.precision), terminal, render)
    if arguments.json:
        terminal.out.file.write(to_text(report.to_json()))
    elif not arguments.quiet:
        terminal.out.print(table(report))
        terminal.out.print(f"{options.output}/  report.html, report.json, manifest.json", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
