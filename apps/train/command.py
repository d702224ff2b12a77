"""`rexnet-train`: train a ReXNet on an image folder, IDX files or the bundled sample."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rexnet_export.apps.shared.face import run_parsed
from rexnet_export.apps.train.options import PROGRAM, parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    return run_parsed(PROGRAM, parser, argv, _after_a_stop)


def _after_a_stop(options: argparse.Namespace) -> str:
    return f"after a finished epoch, --resume goes on from {options.output}; before the first, start again"


if __name__ == "__main__":
    sys.exit(main())
