"""Settling what an export works on: the checkpoint, what it says of itself, and which images serve it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

from rexnet_export.pipeline.checkpoint.load import LoadedCheckpoint, load
from rexnet_export.pipeline.checkpoint.metadata import QPARAMS_KEY
from rexnet_export.pipeline.core.errors import DataError, UsageError
from rexnet_export.pipeline.core.outputs import HEAD
from rexnet_export.pipeline.core.progress import Progress
from rexnet_export.pipeline.core.records import RGB, HeadOutput, ModelCard, Reading
from rexnet_export.pipeline.data.prepared import prepared
from rexnet_export.pipeline.data.selection import Images, checked, labelled_images
from rexnet_export.pipeline.data.settle import settled
from rexnet_export.pipeline.data.sources import ImageSource, bundled, choose, open_source, remarks, with_channels
from rexnet_export.pipeline.export.class_labels import gives_numbers, settle_labels
from rexnet_export.pipeline.export.options import Options
from rexnet_export.pipeline.machine.shared_work import SharedWork
from rexnet_export.pipeline.model.backbone import features

BUNDLED_CHECKPOINT = "rexnet_100-fashion-mnist-64.safetensors"
HELD_BACK_FRACTION = 0.2
HELD_BACK_IMAGES = 512
BAD_OF_CALIBRATION = 100  # one image in so many may be unusable


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """A loaded checkpoint, its card, the images to calibrate and to evaluate on, and notices on what was assumed.

    `reading` says how the checkpoint was read; `work` is what other exports share, where some do.
    """

    checkpoint: LoadedCheckpoint
    reading: Reading
    card: ModelCard
    calibration: Images | None
    evaluation: Images
    notices: tuple[str, ...] = ()
    work: SharedWork | None = None

    def sharing(self, work: SharedWork | None) -> Inputs:
        """The same, for an export that shares what it prepares and computes with others."""
        if work is None:
            return self
        calibration = self.calibration and prepared(self.calibration, work)
        return replace(self, calibration=calibration, evaluation=prepared(self.evaluation, work), work=work)


def gather(options: Options, progress: Progress | None = None, *, headless: bool = False) -> Inputs:
    """Load the checkpoint and open the images; everything that can be refused early is refused here.

    `headless` allows a checkpoint without a classifier.
    """
    reading = options.reading(headless=headless)
    checkpoint = load(options.checkpoint or str(bundled_checkpoint()), reading)
    stated = checkpoint.stated.preprocess
    channels = checkpoint.network.spec.channels
    preprocess = settled(options.preprocess, stated.fields(), stated.sources, channels)
    numbers = gives_numbers(checkpoint, options)
    if numbers:
        _refuse_classes(options, "a network that gives numbers")
    labelled = (
        open_source(
            options.eval_data,
            labelled=True,
            image_labels=options.eval_labels,
            strict=options.strict,
            channels=channels,
        )
        if options.eval_data and not numbers
        else None
    )
    labels, named = settle_labels(checkpoint, options, labelled, preprocess.preprocess)
    spec = checkpoint.network.spec
    card = ModelCard(
        name=spec.name,
        labels=labels,
        preprocess=preprocess.preprocess,
        preprocess_source=preprocess.source,
        checkpoint_sha256=checkpoint.file.sha256,
        heads=tuple(HeadOutput(name=f"{HEAD}{each.name}", numbers=each.outputs) for each in spec.others),
        numbers=spec.classes if numbers else 0,
    )
    samples_fit = channels == RGB and labels == bundled("evaluation").class_names
    # A checkpoint from quantization-aware training brings its table, unless other images are asked for.
    brings_table = QPARAMS_KEY in checkpoint.metadata and options.calibration_data is None
    calibrates = options.precision == "int8" and options.qparams is None and not brings_table
    source = _calibration(options, channels, samples_fit=samples_fit, needed=calibrates)
    if labelled is None and samples_fit:
        labelled = bundled("evaluation")
    calibration = _first(source, options, progress, held_back=labelled is None) if source and calibrates else None
    evaluation = (
        labelled_images(labelled, card, options.eval_images, options.seed, options.max_bad_images or 0, progress)
        if labelled
        else _unlabelled(options.eval_data, options, channels, progress)
        if options.eval_data
        else _held_back(source or with_channels(bundled("evaluation"), channels), options, progress)
    )
    return Inputs(
        checkpoint=checkpoint,
        reading=reading,
        card=card,
        calibration=calibration,
        evaluation=evaluation,
        notices=_lines(
            preprocess.assumption,
            None if headless else named,  # a backbone has no classes to name
            *checkpoint.notes,
            *(remarks(source) if source else ()),
            *(remarks(labelled) if labelled else ()),
            calibration.remark if calibration else None,
            evaluation.remark,
            _subset(labelled, labels),
        ),
    )


def gather_backbone(options: Options, progress: Progress) -> Inputs:
    """The same for the network without its head: features in place of classes.

    Features are compared with the float network's, which needs no labels: any folder of images will do.
    """
    _refuse_classes(options, "a backbone")
    if options.regression:
        raise UsageError("--regression: a backbone has no head that could give numbers; leave it out")
    inputs = gather(replace(options, eval_data=None), progress, headless=True)
    spec = inputs.checkpoint.network.spec
    card = replace(
        inputs.card, name=f"{inputs.card.name}_features", labels=(), features=features(spec), heads=(), numbers=0
    )
    evaluation = inputs.evaluation
    if options.eval_data:
        evaluation = _unlabelled(options.eval_data, options, spec.channels, progress)
    return replace(inputs, card=card, evaluation=replace(evaluation, labels=None))


def _refuse_classes(options: Options, network: str) -> None:
    """What asks for classes has no meaning for a network that has none."""
    for name in options.of_classes:
        flag, value = f"--{name.replace('_', '-')}", getattr(options, name)
        raise UsageError(f"{flag} {value}: {network} has no classes; leave it out")


def _unlabelled(folder: Path, options: Options, channels: int, progress: Progress | None) -> Images:
    source = open_source(folder, labelled=False, strict=options.strict, channels=channels)
    indices = tuple(sorted(choose(source, options.eval_images or len(source), options.seed)))
    return checked(Images(source=source, indices=indices, labels=None), options.max_bad_images or 0, progress)


def _lines(*lines: str | None) -> tuple[str, ...]:
    """Each line once."""
    return tuple(dict.fromkeys(line for line in lines if line))


def _subset(source: ImageSource | None, labels: Sequence[str]) -> str | None:
    present = len(set(source.labels or ())) if source else len(labels)
    if source is None or present == len(labels):
        return None
    return f"{source.name} has images of {present:,} of the {len(labels):,} classes; top-1 is over all {len(labels):,}"


def bundled_checkpoint() -> Path:
    """The trained checkpoint that comes with the package."""
    return Path(str(files("rexnet_export.assets").joinpath(BUNDLED_CHECKPOINT)))


def _calibration(options: Options, channels: int, *, samples_fit: bool, needed: bool) -> ImageSource | None:
    if options.calibration_data:
        return open_source(options.calibration_data, labelled=False, strict=options.strict, channels=channels)
    if samples_fit:
        return bundled("calibration")
    if needed:
        raise DataError(
            "INT8 needs images like those the model will see: give --calibration-data DIR (no labels needed); the "
            "bundled images only serve models with the bundled labels"
        )
    return None


def _first(source: ImageSource, options: Options, progress: Progress | None, *, held_back: bool) -> Images:
    """The images that set the ranges; `held_back` leaves some to measure agreement on."""
    share = len(source) - (_held_back_count(len(source)) if held_back else 0)
    if share < 1:
        raise DataError(
            f"{source.name} has one image: it would both set the INT8 ranges and measure them; give more images, or "
            "--eval-data"
        )
    count = min(options.calibration_images, share)
    images = Images(source=source, indices=tuple(choose(source, count, options.seed)), labels=None)
    most_bad = count // BAD_OF_CALIBRATION if options.max_bad_images is None else options.max_bad_images
    return checked(images, most_bad, progress)


def _held_back(source: ImageSource, options: Options, progress: Progress | None) -> Images:
    """Unlabelled images to measure agreement on: the calibration images' other end, or the bundled ones."""
    count = _held_back_count(len(source))
    if options.eval_images:
        count = min(count, options.eval_images)
    order = choose(source, len(source), options.seed)
    images = Images(source=source, indices=tuple(order[-count:]), labels=None)
    return checked(images, options.max_bad_images or 0, progress)


def _held_back_count(images: int) -> int:
    return max(1, min(HELD_BACK_IMAGES, round(HELD_BACK_FRACTION * images)))
