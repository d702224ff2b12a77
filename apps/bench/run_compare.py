"""Two results of devices side by side."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from rexnet_export.apps.bench.result.recompute import completed_result
from rexnet_export.apps.bench.result.result import agreement
from rexnet_export.apps.bench.result_table import ResultTable, shown
from rexnet_export.apps.shared.terminal import Terminal
from rexnet_export.apps.shared.text import done
from rexnet_export.pipeline.core.text import printable


def compare(options: argparse.Namespace, terminal: Terminal) -> int:
    """Two results side by side, and how far their predictions agree, image by image."""
    first, second = completed_result(options.first), completed_result(options.second)
    between = agreement(options.first, first, options.second, second)
    if options.json:
        terminal.json(between)
        return 0
    terminal.out.print(ResultTable({str(options.first): first, str(options.second): second}))
    said = ", ".join(f"{key.replace('_', ' ')} {shown(value)}" for key, value in between.items())
    terminal.out.print(said, markup=False, soft_wrap=True)
    terminal.note(done(*_ending({str(options.first): first, str(options.second): second}, between)))
    return 0


def _ending(results: Mapping[str, Mapping[str, Any]], between: Mapping[str, float | int | None]) -> tuple[str, str]:
    """How the two differ, and which of them may not be asked about speed."""
    flipped, n = between["flipped_images"], between["n"]
    said = f"{flipped} of {n:,} images get another class" if flipped else f"both give all {n:,} images the same class"
    if invalid := [printable(name) for name, result in results.items() if not result["validity"]["valid"]]:
        return f"{said}; speed is not compared", f"run {' and '.join(invalid)} again: durations are invalid there"
    return f"{said}; the second takes {between['p50_ratio_b_to_a']:.2f} times as long", ""
