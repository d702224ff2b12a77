"""The network's class labels: given, stated by the checkpoint, or the evaluation folders' names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rexnet_export.pipeline.accuracy.paired_choice import paired
from rexnet_export.pipeline.checkpoint.load import LoadedCheckpoint
from rexnet_export.pipeline.core.errors import DataError
from rexnet_export.pipeline.core.progress import Progress
from rexnet_export.pipeline.core.records import Preprocess
from rexnet_export.pipeline.data.sources import ImageSource, choose
from rexnet_export.pipeline.export.class_order import MOST, right_by, settle_order
from rexnet_export.pipeline.export.options import Options
from rexnet_export.pipeline.labels.class_names import class_indices
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
        if checkpoint.labels is not None and _reordered(labels, checkpoint.labels):
            return labels, _by_answers(labels, checkpoint, options, evaluation, preprocess, progress)
        return labels, _replaced(labels, checkpoint.labels, options.labels)
    names = evaluation.class_names if evaluation else None
    if evaluation is not None and names is not None and len(names) == classes:
        return settle_order(names, options, checkpoint.network, evaluation, preprocess, progress)
    return tuple(str(index) for index in range(classes)), (
        f"class names assumed: nothing names the {classes:,} classes, so they are numbers from 0; give --labels FILE"
    )


def _replaced(given: Sequence[str], stated: Sequence[str] | None, file: Path | None) -> str | None:
    """A line on labels that are not those that the checkpoint states, where they differ."""
    if stated is None or file is None:
        return None
    differ = [index for index, (new, old) in enumerate(zip(given, stated, strict=True)) if new != old]
    if not differ:
        return None
    first = differ[0]
    return (
        f"labels of {file.name} replace those of the checkpoint, {len(differ):,} of {len(stated):,}: class {first} is "
        f"{given[first]!r}, not {stated[first]!r}"
    )


def _reordered(given: Sequence[str], stated: Sequence[str]) -> bool:
    new, old = [name.casefold() for name in given], [name.casefold() for name in stated]
    return new != old and sorted(new) == sorted(old)


def _by_answers(
    given: Sequence[str],
    checkpoint: LoadedCheckpoint,
    options: Options,
    evaluation: ImageSource | None,
    preprocess: Preprocess,
    progress: Progress,
) -> str:
    """A line on the checkpoint's own labels in another order, which only the network's answers can show to be right.

    `DataError` where they do not: the network would call one class by another's name.
    """
    stated, file = checkpoint.labels, options.labels
    assert stated is not None
    assert file is not None
    first = next(index for index, name in enumerate(given) if name.casefold() != stated[index].casefold())
    moved = f"class {first} is {given[first]!r} in the file and {stated[first]!r} in the checkpoint"
    refused = f"--labels {file} has the checkpoint's own labels in another order: {moved}; leave --labels out"
    if evaluation is None or evaluation.labels is None or evaluation.class_names is None:
        raise DataError(f"{refused}, or show that the file is right: --eval-data DIR with a folder of images per class")
    places = {order: class_indices(evaluation.class_names, order, evaluation.name) for order in (stated, tuple(given))}
    elsewhere = [own != other for own, other in zip(*places.values(), strict=True)]
    order = choose(evaluation, len(evaluation), options.seed)
    asked = [index for index in order if elsewhere[evaluation.labels[index]]][:MOST]
    if not asked:
        raise DataError(f"{refused}: no image of {evaluation.name} is of a class whose place differs")
    right = right_by(places, asked, checkpoint.network, evaluation, preprocess, options, progress)
    found = paired(right[stated], right[tuple(given)])
    if not found.clear():
        raise DataError(f"{refused}: in the file's order the float network has {found}")
    return f"classes are in the order of {file.name}, not the checkpoint's: {moved}, and the float network has {found}"
