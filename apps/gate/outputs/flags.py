"""The flags that take files for CI; what is written there is in `outputs`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

FORMATS: Mapping[str, str] = {
    "--junit": "write JUnit XML: a case for each artifact and check",
    "--markdown": "write Markdown for a pull request",
    "--html": "write a page with intervals and flipped images",
    "--benchmark": "write JSON for github-action-benchmark, tool customSmallerIsBetter",
    "--benchmark-bigger": "the same for its tool customBiggerIsBetter",
    "--bencher": "write Bencher Metric Format",
}


def add_outputs(p: argparse.ArgumentParser) -> None:
    """One flag for each format."""
    group = p.add_argument_group("files for CI, written whatever the verdict")
    for flag, text in FORMATS.items():
        group.add_argument(flag, type=Path, metavar="FILE", help=text)
