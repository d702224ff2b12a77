"""Refusing options that say nothing to what was asked for."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from rexnet_export.pipeline.core.errors import UsageError


def refuse_given(options: argparse.Namespace, names: Iterable[str], why: str) -> None:
    """`UsageError` for the first of the options `names` that was given; `why` follows its flag."""
    for name in names:
        if getattr(options, name) is not None:
            raise UsageError(f"--{name.replace('_', '-')} {why}")
