"""Trials that a resumed sweep no longer asks for: their folders are kept, apart from the others."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from rexnet_export.apps.export.sweep.plan import TRIALS
from rexnet_export.pipeline.core.files import writing

SET_ASIDE = "set-aside"  # a folder beside that of all trials


def set_aside(output: Path, asked: Collection[str], known: Collection[str]) -> list[str]:
    """Move away the folders of trials that are known but not asked for, and back those that are asked for again.

    `output` is the sweep's folder; the names of all that are away now. `UsageError` where a folder cannot be moved.
    """
    here, away = output / TRIALS, output / SET_ASIDE
    with writing(output):
        for folder in _folders(here):
            if folder.name in known and folder.name not in asked:
                away.mkdir(exist_ok=True)
                folder.rename(away / folder.name)
        for folder in _folders(away):
            if folder.name in asked:
                here.mkdir(exist_ok=True)
                folder.rename(here / folder.name)
        return [folder.name for folder in _folders(away)]


def _folders(parent: Path) -> list[Path]:
    return sorted(path for path in parent.iterdir() if path.is_dir()) if parent.is_dir() else []
