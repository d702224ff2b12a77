"""The network's class labels: given, stated by the checkpoint, or the evaluation folders' names."""

from __future__ import annotations

from rexnet_export.pipeline.checkpoint.load import LoadedCheckpoint
from rexnet_export.pipeline.core.errors import DataError
from rexnet_export.pipeline.core.progress import Progress
from rexnet_export.pipeline.core.records import Preprocess
from rexnet_export.pipeline.data.sources import ImageSource
from rexnet_export.pipeline.export.class_order import settle_order
from rexnet_export.pipeline.export.options import Options
from rexnet_export.pipeline.labels.label_files import read_labels


def gives_numbers(checkpoint: LoadedCheckpoint, options: Options) -> bool:
    """Whether the outputs are no classes: as `--regression` or the checkpoint says, or because there is one."""
    if options.regression or checkpoint.labels == ():
        return True
    return checkpoint.network.spec.classes == 1 and options.labels is None


def settle_labels(
    checkpoint: LoadedCheckpoint,
    options: Options,
    evaluation: ImageSource | None,
    preprocess: Preprocess,
    progress: Progress,
) -> tuple[tuple[str, ...], str | None]:
    """One label per class in the network's order, and a line on what nobody stated; none where it gives numbers."""
    classes = checkpoint.network.spec.classes
    if gives_numbers(checkpoint, options):
        what = "one number, which is no class" if classes == 1 else f"{classes} numbers, not classes"
        return (), f"the network gives {what} (regression): top-1 is not measured"
    labels = read_labels(options.labels) if options.labels else checkpoint.labels
    if labels is not None:
        if len(labels) != classes:
            raise DataError(
                f"{len(labels)} labels in {options.labels or 'the checkpoint'} but the network has {classes} classes; "
                f"give --labels with {classes} lines"
            )
        return labels, None
    names = evaluation.class_names if evaluation else None
    if evaluation is not None and names is not None and len(names) == classes:
        return settle_order(names, options, checkpoint.network, evaluation, preprocess, progress)
    return tuple(str(index) for index in range(classes)), (
        f"class names assumed: nothing names the {classes:,} classes, so they are numbers from 0; give --labels FILE"
    )
