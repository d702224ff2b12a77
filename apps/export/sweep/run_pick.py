"""What `rexnet-export sweep pick` does, and prints of it."""

from __future__ import annotations

import argparse

from rexnet_export.apps.export.sweep.pick import candidates, picked, read_sweep, require_same
from rexnet_export.apps.shared.terminal import Terminal
from rexnet_export.apps.shared.text import counted, done
from rexnet_export.pipeline.core.json import plain


def run(arguments: argparse.Namespace, terminal: Terminal) -> None:
    """Name the file to ship."""
    bound = arguments.max_drop / 100
    found = candidates(*read_sweep(arguments.sweep), arguments.target, bound)
    chosen = picked(found, bound)
    path = require_same(arguments.sweep, chosen)
    if arguments.json:
        terminal.json(
            {"max_drop": bound, "target": arguments.target, "candidates": len(found), "picked": plain(chosen)}
        )
        return
    terminal.out.print(str(path), soft_wrap=True)
    cost = f"{chosen.bytes / 1e6:.1f} MB" if chosen.p50_ms is None else f"{chosen.p50_ms:.2f} ms"
    limits = f"drop {chosen.drop * 100:+.2f} points, at most {chosen.drop_upper_95 * 100:+.2f}"
    proof = f"p {chosen.p:.2g}, corrected for {counted(len(found), 'candidate')}"
    terminal.note(done(f"{chosen.trial} is shown to keep {arguments.max_drop:g} points: {cost}, {limits}, {proof}"))
