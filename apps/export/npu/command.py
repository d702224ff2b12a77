"""`rexnet-export npu`: compile a finished `.tflite` ahead of time for chosen phones' NPUs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rexnet_export.apps.export.npu.chips import VENDORS, chips_from
from rexnet_export.apps.shared.face import run_parsed
from rexnet_export.apps.shared.flags import CommandParser
from rexnet_export.pipeline.core.errors import UsageError
from rexnet_export.pipeline.core.files import compiled_folder, require_no_export

NPU = "npu"
PROGRAM = f"rexnet-export {NPU}"
DESCRIPTION = """Compile a finished `.tflite` ahead of time for NPUs, one file a chip, and say how many of its operators
each chip's program holds, in how many partitions, and what is left to the processor. Compiled files cannot be executed
without their chip: ship the portable file beside them. The compilers are not part of this package; --fetch installs
them in a folder of their own. Exit code 12: a file could not be compiled, or is not whole on the NPU; 13: a compiler is
missing."""


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    return run_parsed(PROGRAM, parser, argv)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    chips = "; ".join(f"{vendor.name}: {', '.join(vendor.chips)}" for vendor in VENDORS)
    p = CommandParser(prog=PROGRAM, description=DESCRIPTION, epilog=f"Chips. {chips}.")
    p.add_argument("file", type=Path, nargs="?", metavar="FILE", help="a .tflite that rexnet-export wrote")
    p.add_argument(
        "--chips",
        metavar="CHIP[,...]",
        help="such as SM8650,SM8750, or a vendor, or all (those of Qualcomm, whose compiler --fetch brings)",
    )
    p.add_argument("--output", type=Path, metavar="DIR", help="(default: FILE's name with -npu, beside it)")
    p.add_argument("--fetch", action="store_true", help="install the compilers first, where they are not yet")
    p.add_argument("--environment", type=Path, metavar="DIR", help="compilers installed by hand: a folder of packages")
    p.add_argument("--json", action="store_true", help="print npu.json instead of the table")
    p.add_argument("--quiet", action="store_true", help="no progress, no table")
    p.add_argument("--debug", action="store_true", help="show tracebacks")
    p.set_defaults(settle=_settle, work="rexnet_export.apps.export.npu.run_npu:run")
    return p


def _settle(arguments: argparse.Namespace) -> None:
    if arguments.fetch and arguments.environment is not None:
        raise UsageError(f"--environment {arguments.environment} is one made by hand: leave out --fetch")
    if arguments.file is None:
        _fetch_alone(arguments)
        return
    if arguments.chips is None:
        raise UsageError("--chips is missing: name chips such as SM8650,SM8750, or all")
    arguments.chosen = chips_from(arguments.chips, "--chips")
    if not arguments.file.exists():
        raise UsageError(f"{arguments.file} does not exist; name a .tflite that rexnet-export wrote")
    if arguments.file.suffix != ".tflite" or not arguments.file.is_file():
        raise UsageError(f"{arguments.file} is no .tflite file; name one that rexnet-export wrote")
    if arguments.output is None:
        arguments.output = arguments.file.with_name(compiled_folder(arguments.file.name))
    require_no_export(arguments.output)


def _fetch_alone(arguments: argparse.Namespace) -> None:
    if not arguments.fetch:
        raise UsageError("FILE is missing; name a .tflite that rexnet-export wrote")
    for name in ("chips", "output", "json"):
        if getattr(arguments, name):
            raise UsageError(f"--{name} needs a FILE; name a .tflite that rexnet-export wrote")
    arguments.work = "rexnet_export.apps.export.npu.run_npu:fetch_only"
