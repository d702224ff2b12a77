"""`rexnet-study table`: the family recomputed beside its published figures, and Table 8 from the network itself."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "the family's parameters and multiply-accumulates beside the published figures, and Table 8 from the model"


def add_options(p: argparse.ArgumentParser) -> None:
    """The command line."""
    p.add_argument("--write", type=Path, metavar="FILE", help="write Markdown there instead of printing it")
