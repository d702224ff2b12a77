"""Where an export may write: never among what it reads, as an output folder is replaced whole."""

from __future__ import annotations

from pathlib import Path

from rexnet_export.pipeline.checkpoint.reference import on_hub, weights_at
from rexnet_export.pipeline.core.errors import UsageError
from rexnet_export.pipeline.export.options import Options


def require_apart(options: Options) -> None:
    """`UsageError` where the output is the checkpoint's own folder, or is or lies in one of photos."""
    checkpoint = options.checkpoint
    if checkpoint is not None and on_hub(checkpoint) is None:
        weights = weights_at(checkpoint)
        _require(options.output, "checkpoint", weights, inside=_place(options.output) == _place(weights.parent))
    for flag, path in (("calibration-data", options.calibration_data), ("eval-data", options.eval_data)):
        if path is not None:
            place, folder = _place(options.output), _place(path)
            inside = place.is_relative_to(folder) if path.is_dir() else place == folder.parent
            _require(options.output, flag, path, inside=inside)


def _require(output: Path, flag: str, path: Path, *, inside: bool) -> None:
    if inside:
        raise UsageError(f"--output {output}: --{flag} {path} is read there; name a folder outside it")


def _place(path: Path) -> Path:
    """The path from the root, links followed; as it is where no file can have that name."""
    try:
        return path.resolve()
    except (OSError, ValueError):
        return path
