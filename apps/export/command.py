"""`rexnet-export`: turn a trained ReXNet into artifacts for its targets, execute them, and say what they cost."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields

from rexnet_export.apps.export import backbone_command as backbone
from rexnet_export.apps.export import predict_command as predict
from rexnet_export.apps.export import verify_command as verify
from rexnet_export.apps.export.options import MEANT, add_flags
from rexnet_export.apps.shared.flags import CommandParser, add_version
from rexnet_export.apps.shared.terminal import run_parsed
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
    if list(given[:1]) == [predict.PREDICT]:
        return predict.main(given[1:])
    return run_parsed(PROGRAM, parser, given)


def parser() -> argparse.ArgumentParser:
    """The command line: one flag for each field of `Options`, and how to show the result."""
    from rexnet_export.targets import TARGETS  # noqa: PLC0415 - keeps this module's import light

    p = CommandParser(
        prog=PROGRAM,
        description=DESCRIPTION,
        epilog=f"`{PROGRAM} {VERIFY} FILE|DIR ...` proves finished artifacts again, `{PROGRAM} {backbone.BACKBONE}` "
        f"exports the network without its head, `{PROGRAM} {predict.PREDICT} FILE PHOTO ...` asks a file about photos; "
        "each has a --help.",
        argument_default=argparse.SUPPRESS,
        meant=MEANT,
        words=(VERIFY, backbone.BACKBONE, predict.PREDICT),
    )
    add_flags(p, Options(), {option.name: option.metadata["help"] for option in fields(Options)}, list(TARGETS))
    p.add_argument("--json", action="store_true", default=False, help="print report.json instead of the table")
    add_version(p)
    p.set_defaults(work="rexnet_export.apps.export.run_export:export")
    return p


if __name__ == "__main__":
    sys.exit(main())
