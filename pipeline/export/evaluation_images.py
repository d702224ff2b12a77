"""Which images an export is measured on; nothing here needs torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rexnet_export.pipeline.core.progress import Progress
from rexnet_export.pipeline.core.records import RGB, ModelCard
from rexnet_export.pipeline.data.overlap import in_common
from rexnet_export.pipeline.data.selection import Images, checked, labelled_images
from rexnet_export.pipeline.data.sources import ImageSource, bundled, choose, open_source, with_channels
from rexnet_export.pipeline.export.options import Options

HELD_BACK_FRACTION = 0.2
HELD_BACK_IMAGES = 512


def samples_fit(labels: Sequence[str], channels: int) -> bool:
    """Whether the images that come with the package are of the network's classes."""
    return channels == RGB and tuple(labels) == bundled("evaluation").class_names


def open_labelled(options: Options, channels: int, *, numbers: bool) -> ImageSource | None:
    """The images of `--eval-data` with their classes; None without, or where the network has no classes."""
    if options.eval_data is None or numbers:
        return None
    return open_source(
        options.eval_data, labelled=True, image_labels=options.eval_labels, strict=options.strict, channels=channels
    )


def evaluation_images(
    labelled: ImageSource | None,
    calibration: ImageSource | None,
    card: ModelCard,
    options: Options,
    progress: Progress | None,
) -> Images:
    """Labelled images where there are any, else those of `--eval-data`, else calibration images that set no range.

    Where nothing is calibrated either, the bundled images serve to compare answers.
    """
    channels = card.preprocess.channels
    if labelled:
        return labelled_images(labelled, card, options.eval_images, options.seed, options.max_bad_images or 0, progress)
    if options.eval_data:
        return unlabelled(options.eval_data, options, channels, progress)
    return _held_back(calibration or with_channels(bundled("evaluation"), channels), options, progress)


def unlabelled(folder: Path, options: Options, channels: int, progress: Progress | None) -> Images:
    """Images of a folder, whatever their classes."""
    source = open_source(folder, labelled=False, strict=options.strict, channels=channels)
    indices = tuple(sorted(choose(source, options.eval_images or len(source), options.seed)))
    return checked(Images(source=source, indices=indices, labels=None), options.max_bad_images or 0, progress)


def held_back_count(images: int) -> int:
    """How many of unlabelled calibration images are kept to measure agreement on."""
    return max(1, min(HELD_BACK_IMAGES, round(HELD_BACK_FRACTION * images)))


def subset(source: ImageSource | None, labels: Sequence[str]) -> str | None:
    """One line where labelled images are of some of the classes alone."""
    present = len(set(source.labels or ())) if source else len(labels)
    if source is None or present == len(labels):
        return None
    return f"{source.name} has images of {present:,} of the {len(labels):,} classes; top-1 is over all {len(labels):,}"


def reused(calibration: Images | None, evaluation: Images, options: Options, progress: Progress) -> str | None:
    """One line where images of `--eval-data` also set the ranges."""
    if calibration is None or options.calibration_data is None or options.eval_data is None:
        return None
    count, of = in_common(calibration, evaluation, progress), len(evaluation.indices)
    if not count:
        return None
    return (
        f"{count:,} of {of:,} evaluation images are among those that the INT8 ranges are made of, which flatters what "
        "is measured; give others as --eval-data or --calibration-data"
    )


def lines(*found: str | None) -> tuple[str, ...]:
    """Each line once."""
    return tuple(dict.fromkeys(line for line in found if line))


def _held_back(source: ImageSource, options: Options, progress: Progress | None) -> Images:
    """Unlabelled images to measure agreement on: the calibration images' other end, or the bundled ones."""
    count = held_back_count(len(source))
    if options.eval_images:
        count = min(count, options.eval_images)
    order = choose(source, len(source), options.seed)
    images = Images(source=source, indices=tuple(order[-count:]), labels=None)
    return checked(images, options.max_bad_images or 0, progress)
