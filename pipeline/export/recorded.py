"""The options of an export as its manifest keeps them."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from rexnet_export.pipeline.checkpoint.reference import on_hub
from rexnet_export.pipeline.core.json import plain
from rexnet_export.pipeline.core.reproducible import is_reproducible
from rexnet_export.pipeline.export.options import Options


def recorded(options: Options) -> dict[str, Any]:
    """The options as JSON values, but for the folder that the record itself lies in.

    Paths are as they were given; where records are to be reproducible, files and folders have their names alone.
    """
    values = {f.name: plain(getattr(options, f.name)) for f in fields(options) if f.name != "output"}
    return {**values, **{name: _name(path) for name, path in _places(options).items()}} if is_reproducible() else values


def without_folders(text: str, options: Options) -> str:
    """A line that names inputs; where records are to be reproducible, by their names alone."""
    if not is_reproducible():
        return text
    # A path may be the start of another: the longest first. One of a single part has no folder, and may be a mere dot.
    for path in sorted(_places(options).values(), key=lambda path: -len(path.parts)):
        text = text.replace(str(path), _name(path)) if len(path.parts) > 1 else text
    return text


def _name(path: Path) -> str:
    """The last part; of `.` or `..` that of the folder it stands for."""
    return path.name if path.name not in {"", ".."} else path.resolve().name


def _places(options: Options) -> dict[str, Path]:
    """What was given as a file or folder to read."""
    given = {f.name: getattr(options, f.name) for f in fields(options) if f.name != "output"}
    places = {name: value for name, value in given.items() if isinstance(value, Path)}
    if options.checkpoint is not None and on_hub(options.checkpoint) is None:
        places["checkpoint"] = Path(options.checkpoint)
    return places
