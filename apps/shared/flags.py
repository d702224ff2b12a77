"""Refusing options that say nothing to what was asked for."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from importlib.metadata import version
from typing import NoReturn

from rexnet_export.pipeline.core.errors import UsageError


def refuse_given(options: argparse.Namespace, names: Iterable[str], why: str) -> None:
    """`UsageError` for the first of the options `names` that was given; `why` follows its flag."""
    for name in names:
        if getattr(options, name) is not None:
            raise UsageError(f"--{name.replace('_', '-')} {why}")


class Version(argparse.Action):
    """`--version`: the package's version, looked up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        """Print it and end."""
        sys.stdout.write(f"{parser.prog} {version('rexnet-export')}\n")
        parser.exit()


def add_version(p: argparse.ArgumentParser) -> None:
    """Give a command `--version`."""
    p.add_argument("--version", action=Version, nargs=0, help="print the version and end")
