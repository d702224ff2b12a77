"""The network's class labels: given, stated by the checkpoint, or the evaluation folders' names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

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
        return labels, _replaced(labels, checkpoint.labels, options.labels)
    names = evaluation.class_names if evaluation else None
    if evaluation is not None and names is not None and len(names) == classes:
        return settle_order(names, options, checkpoint.network, evaluation, preprocess, progress)
    return tuple(str(index) for index in range(classes)), (
        f"class names assumed: nothing names the {classes:,} classes, so they are numbers from 0; give --labels FILE"
    )


def _replaced(given: Sequence[str], stated: Sequence[str] | None, file: Path | None) -> str | None:
    """A line on labels that are not those that the checkpoint states, where they differ; the same names in another
    order are refused: the network would call one class by another's name."""
    if stated is None or file is None:
        return None
    differ = [index for index, (new, old) in enumerate(zip(given, stated, strict=True)) if new != old]
    if not differ:
        return None
    first = differ[0]
    moved = [index for index in differ if given[index].casefold() != stated[index].casefold()]
    if moved and sorted(map(str.casefold, given)) == sorted(map(str.casefold, stated)):
        raise DataError(
            f"--labels {file} has the checkpoint's own labels in another order: class {moved[0]} is "
            f"{stated[moved[0]]!r} there and {given[moved[0]]!r} in the file; leave --labels out"
        )
    return (
        f"labels of {file.name} replace those of the checkpoint, {len(differ):,} of {len(stated):,}: class {first} is "
        f"{given[first]!r}, not {stated[first]!r}"
    )
