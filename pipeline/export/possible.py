"""What an export refuses before any work, and before torch or a toolchain is loaded for nothing."""

from __future__ import annotations

import os
from collections.abc import Sequence

from rexnet_export.pipeline.artifact.target import Target
from rexnet_export.pipeline.checkpoint.reference import export_at, on_hub, weights_at
from rexnet_export.pipeline.core.errors import CheckpointError, UsageError
from rexnet_export.pipeline.core.records import Precision
from rexnet_export.pipeline.data.sources import require_there
from rexnet_export.pipeline.export.apart import require_apart
from rexnet_export.pipeline.export.options import Options
from rexnet_export.pipeline.labels.label_files import read_labels, read_text
from rexnet_export.quantization.table.table_file import load_table


def require_paths(options: Options) -> None:
    """Refuse inputs that are not there, or lists and tables that cannot be read, and an output among the inputs.

    Of a finished export only what its further targets are measured on: it has decided the rest, and says so.
    """
    if options.eval_data is not None:
        require_there(options.eval_data)
    if options.eval_labels is not None:
        read_text(options.eval_labels, "labels")
    if export_at(options.checkpoint) is None:
        _require_to_decide_by(options)
    require_apart(options)


def _require_to_decide_by(options: Options) -> None:
    checkpoint = options.checkpoint
    if checkpoint is not None and on_hub(checkpoint) is None:
        path = weights_at(checkpoint)
        if not os.path.exists(path):  # noqa: PTH110 - of any length
            raise CheckpointError(f"no checkpoint at {path}")
    if options.calibration_data is not None:
        require_there(options.calibration_data)
    if options.labels is not None:
        read_labels(options.labels)
    if options.qparams is not None:
        load_table(options.qparams)


def require_targets(targets: Sequence[Target], precision: Precision) -> None:
    """Refuse targets that lack the precision or whose toolchain is missing."""
    for target in targets:
        if precision not in target.precisions:
            raise UsageError(f"--target {target.name} has no {precision}: choose {' or '.join(target.precisions)}")
        target.require()
