"""`rexnet-export backbone`: the network without its head, for detectors, on every mobile target."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields

from rexnet_export.apps.export.npu.asked import add_npu_flag, asked_chips
from rexnet_export.apps.export.options import BACKBONE_DEFAULTS, GPU, MEANT, add_flags, options_from
from rexnet_export.apps.shared.face import run_parsed
from rexnet_export.apps.shared.flags import CommandParser
from rexnet_export.pipeline.core.errors import UsageError
from rexnet_export.pipeline.export.options import Options
from rexnet_export.targets import TARGETS

BACKBONE = "backbone"
PROGRAM = f"rexnet-export {BACKBONE}"
REFUSED = frozenset({"labels", "class_order", "eval_labels", "max_drop", "scores", "regression", "proof"})
TEXTS = {"eval_data": "folder of images, with or without classes"}
DESCRIPTION = """Convert the network without its head: feature maps at strides 4, 8, 16 and 32 as outputs, for
detectors. Quantized and executed like the classifier; each output is compared with the float network's."""


def main(argv: Sequence[str]) -> int:
    """Run the subcommand; returns the exit code."""
    return run_parsed(PROGRAM, parser, argv)


def parser() -> argparse.ArgumentParser:
    """The export's command line, as far as it goes for a backbone."""
    p = CommandParser(prog=PROGRAM, description=DESCRIPTION, argument_default=argparse.SUPPRESS, meant=MEANT)
    texts = {option.name: option.metadata["help"] for option in fields(Options) if option.name not in REFUSED}
    add_flags(p, BACKBONE_DEFAULTS, texts | TEXTS, [name for name in TARGETS if name != GPU])
    add_npu_flag(p)
    p.add_argument("--json", action="store_true", default=False, help="print backbone.json instead of the table")
    p.set_defaults(settle=_settle, work="rexnet_export.apps.export.run_backbone:export")
    return p


def _settle(arguments: argparse.Namespace) -> None:
    arguments.options = options_from(arguments, BACKBONE_DEFAULTS)
    if GPU in arguments.options.target:
        raise UsageError("--target gpu: in torch it is pipeline.model.backbone.Backbone of the checkpoint itself")
    arguments.options.refuse_classes("a backbone")
    if arguments.options.regression:
        raise UsageError("--regression: a backbone has no head that could give numbers; leave it out")
    arguments.chips = asked_chips(arguments.npu, arguments.options)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
