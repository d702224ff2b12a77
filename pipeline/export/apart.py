"""Where an export may write: never among what it reads, as an output folder is replaced whole."""

from __future__ import annotations

import os
from pathlib import Path

from rexnet_export.pipeline.checkpoint.reference import export_at, on_hub, weights_at
from rexnet_export.pipeline.core.errors import UsageError
from rexnet_export.pipeline.core.text import is_unicode
from rexnet_export.pipeline.export.options import Options


def require_apart(options: Options) -> None:
    """`UsageError` where the output is the checkpoint's own folder, is or lies in one of photos, or can be none.

    An earlier export in a checkpoint's place is such a folder itself.
    """
    _require_folder(options.output)
    checkpoint = options.checkpoint
    if checkpoint is not None and on_hub(checkpoint) is None:
        read = export_at(checkpoint) or weights_at(checkpoint)
        folder = read if read.is_dir() else read.parent
        _require(options.output, "checkpoint", read, inside=_place(options.output) == _place(folder))
    for flag, path in (("calibration-data", options.calibration_data), ("eval-data", options.eval_data)):
        if path is not None:
            place, folder = _place(options.output), _place(path)
            inside = place.is_relative_to(folder) if path.is_dir() else place == folder.parent
            _require(options.output, flag, path, inside=inside)


def _require_folder(output: Path) -> None:
    """What is there, or above what will be, must be a folder that may be written: known before minutes of work."""
    there = next((place for place in (output, *output.parents) if os.path.lexists(place)), output)
    if not is_unicode(str(_place(output))):
        raise UsageError(f"--output {output}: a name there is no UTF-8, and runtimes open no such file; choose another")
    if not there.is_dir():
        raise UsageError(f"--output {output}: {there} is no folder; choose a folder you can write to")
    if not os.access(there, os.W_OK):
        raise UsageError(f"--output {output}: {there} cannot be written; choose a folder you can write to")


def _require(output: Path, flag: str, path: Path, *, inside: bool) -> None:
    if inside:
        raise UsageError(f"--output {output}: --{flag} {path} is read there; name a folder outside it")


def _place(path: Path) -> Path:
    """The path from the root, links followed; as it is where no file can have that name."""
    try:
        return path.resolve()
    except (OSError, ValueError):
        return path
