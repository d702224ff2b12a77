"""rexnet-export: ship a trained ReXNet to phones and boards in INT8, every artifact executed and measured."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rexnet_export.pipeline.core.progress import Step
    from rexnet_export.pipeline.report.report import Report

    __version__: str

__all__ = ["__version__", "export", "tqdm_bars"]


def __getattr__(name: str) -> str:
    """`__version__`, looked up when it is asked for: no command waits for the list of installed packages."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import version  # noqa: PLC0415

    return version("rexnet-export")


def export(
    checkpoint: str | Path | None = None,
    *,
    targets: str | list[str] | None = None,
    progress: Callable[[Step], object] | None = None,
    sign: str | Path | None = None,
    npu: str | list[str] | None = None,
    **options: object,
) -> Report:
    """Export a checkpoint (default: the bundled one) and return the report that `report.json` holds.

    In its place the folder of a finished export may be named: further targets are made of it, without torch.
    `targets` are names as after `--target` (default all); other keywords are the fields of
    `pipeline.export.options.Options`, for example `precision="int8"`, `calibration_data=...`, `output=...`.
    `progress` is called with each `Step` of the run; `rexnet_export.tqdm_bars()` is one that shows bars, in notebooks
    too. `sign` is a private key (PEM) to sign the provenance with, which needs `rexnet-export[sign]`; its password is
    read from `REXNET_EXPORT_KEY_PASSWORD`. `npu` are chips as after `--npu`, for whose NPUs the `.tflite` is compiled
    beside the export; one that cannot be raises when everything else is published. Raises the errors of
    `pipeline.core.errors`; prints nothing of its own.
    """
    from rexnet_export.apps.export.python_call import run  # noqa: PLC0415 - `import rexnet_export` is instant

    return run(checkpoint, targets, progress, sign, npu, options)


def tqdm_bars() -> Callable[[Step], None]:
    """A `progress` for `export` that shows one tqdm bar a stage, drawn by the notebook in Jupyter; needs tqdm."""
    from rexnet_export.apps.export.tqdm_bars import TqdmBars  # noqa: PLC0415 - tqdm, which is not needed otherwise

    return TqdmBars()
