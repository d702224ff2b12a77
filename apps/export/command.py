"""`rexnet-export`: turn a trained ReXNet into artifacts for its targets, execute them, and say what they cost."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields

from rexnet_export.apps.export import backbone_command as backbone
from rexnet_export.apps.export import predict_command as predict
from rexnet_export.apps.export.doctor import command as doctor
from rexnet_export.apps.export.info import command as info
from rexnet_export.apps.export.npu import command as npu
from rexnet_export.apps.export.npu.asked import add_npu_flag, asked_chips
from rexnet_export.apps.export.options import MEANT, add_flags, options_from
from rexnet_export.apps.export.sweep import command as sweep
from rexnet_export.apps.export.verify import command as verify
from rexnet_export.apps.shared.face import run_parsed
from rexnet_export.apps.shared.flags import CommandParser, add_version
from rexnet_export.pipeline.export.options import Options
from rexnet_export.targets import TARGETS

PROGRAM = "rexnet-export"
SUBCOMMANDS: Mapping[str, Callable[[Sequence[str]], int]] = {
    "verify": verify.main,
    backbone.BACKBONE: backbone.main,
    predict.PREDICT: predict.main,
    info.INFO: info.main,
    doctor.DOCTOR: doctor.main,
    sweep.SWEEP: sweep.main,
    npu.NPU: npu.main,
}
EPILOG = """subcommands, each with a --help: `verify FILE|DIR ...` proves finished artifacts again, `backbone` exports
the network without its head, `predict FILE PHOTO ...` asks a file about photos, `info FILE` says what a file is,
`doctor` what works on this machine, `sweep SWEEP.toml` makes many exports and puts them side by side, `npu FILE`
compiles a .tflite for phones' NPUs."""
DESCRIPTION = """Convert a trained ReXNet to Core ML, TFLite and ONNX Runtime mobile, quantize it to INT8 with
calibration, execute every artifact and report accuracy and latency beside the float network. Without options the
bundled checkpoint and images are used."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    given = sys.argv[1:] if argv is None else argv
    if given and given[0] in SUBCOMMANDS:
        return SUBCOMMANDS[given[0]](given[1:])
    return run_parsed(PROGRAM, parser, given)


def parser() -> argparse.ArgumentParser:
    """The command line: one flag for each field of `Options`, and how to show the result."""
    p = CommandParser(
        prog=PROGRAM,
        description=DESCRIPTION,
        epilog=EPILOG,
        argument_default=argparse.SUPPRESS,
        meant=MEANT,
        words=tuple(SUBCOMMANDS),
    )
    add_flags(p, Options(), {option.name: option.metadata["help"] for option in fields(Options)}, list(TARGETS))
    add_npu_flag(p)
    p.add_argument("--json", action="store_true", default=False, help="print report.json instead of the table")
    add_version(p)
    p.set_defaults(settle=_settle, work="rexnet_export.apps.export.run_export:export")
    return p


def _settle(arguments: argparse.Namespace) -> None:
    arguments.options = options_from(arguments, Options())
    arguments.chips = asked_chips(arguments.npu, arguments.options)


if __name__ == "__main__":
    sys.exit(main())
