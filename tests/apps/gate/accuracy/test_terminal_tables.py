"""What a person reads of new baselines."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from rexnet_export.apps.gate.accuracy.terminal_tables import update_table
from rexnet_export.apps.gate.baseline.update import Updated


def test_old_and_new_top1_stand_beside_each_other() -> None:
    one = {"path": Path("baselines/net/ort.json"), "target": "ort"}
    console = Console(file=io.StringIO(), width=120)
    console.print(
        update_table(
            [
                Updated(**one, changed=True, old_top1=0.925, new_top1=0.9312),  # type: ignore[arg-type]
                Updated(**one, changed=True, old_top1=None, new_top1=0.5),  # type: ignore[arg-type]
                Updated(**one, changed=False, old_top1=0.25, new_top1=0.25),  # type: ignore[arg-type]
            ]
        )
    )
    assert isinstance(console.file, io.StringIO)
    rows = [line.split()[2:] for line in console.file.getvalue().splitlines() if "net/ort.json" in line]
    assert rows == [["92.50%", "93.12%"], ["-", "50.00%"], ["25.00%", "unchanged"]]
