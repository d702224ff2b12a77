"""`rexnet-bench run --device apple:IDENTIFIER`: an iPhone or iPad that is connected to this Mac."""

from __future__ import annotations

import argparse

PREFIX, RUNTIME = "apple:", "coremltools"


def add_apple_options(p: argparse.ArgumentParser) -> None:
    """What an iPhone or iPad needs beside its name."""
    p.add_argument("--apple-team", metavar="TEAM", help="the developer team that signs the app on an iPhone or iPad")
