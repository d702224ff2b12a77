"""Settling what an export works on: the checkpoint, what it says of itself, and which images serve it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rexnet_export.pipeline.checkpoint.bundled import bundled_checkpoint
from rexnet_export.pipeline.checkpoint.load import LoadedCheckpoint, load
from rexnet_export.pipeline.checkpoint.metadata import QPARAMS_KEY
from rexnet_export.pipeline.core.errors import DataError
from rexnet_export.pipeline.core.outputs import HEAD
from rexnet_export.pipeline.core.progress import Progress, Silent
from rexnet_export.pipeline.core.records import HeadOutput, ModelCard, Reading
from rexnet_export.pipeline.data.prepared import prepared
from rexnet_export.pipeline.data.selection import Images, checked
from rexnet_export.pipeline.data.settle import settled
from rexnet_export.pipeline.data.sources import ImageSource, bundled, choose, open_source, remarks
from rexnet_export.pipeline.data.turned import turned
from rexnet_export.pipeline.export.class_labels import gives_numbers, settle_labels
from rexnet_export.pipeline.export.evaluation_images import (
    evaluation_images,
    held_back_count,
    lines,
    open_labelled,
    reused,
    samples_fit,
    subset,
    unlabelled,
)
from rexnet_export.pipeline.export.options import Options
from rexnet_export.pipeline.labels.label_files import renumbered
from rexnet_export.pipeline.machine.shared_work import SharedWork
from rexnet_export.pipeline.model.backbone import features

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

    `headless` allows a checkpoint without a classifier, and any folder of images to evaluate on.
    """
    reading = options.reading(headless=headless)
    checkpoint = load(options.checkpoint or str(bundled_checkpoint()), reading)
    stated = checkpoint.stated.preprocess
    channels = checkpoint.network.spec.channels
    preprocess = settled(options.preprocess, stated.fields(), stated.sources, channels)
    numbers = gives_numbers(checkpoint, options)
    if numbers:
        options.refuse_classes("a network that gives numbers")
    labelled = None if headless else open_labelled(options, channels, numbers=numbers)
    labels, named = settle_labels(checkpoint, options, labelled, preprocess.preprocess, progress or Silent())
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
    fit = samples_fit(labels, channels)
    # A checkpoint from quantization-aware training brings its table, unless other images are asked for.
    brings_table = QPARAMS_KEY in checkpoint.metadata and options.calibration_data is None
    calibrates = options.precision == "int8" and options.qparams is None and not brings_table
    source = _calibration(options, channels, samples_fit=fit, needed=calibrates)
    if labelled is None and fit:
        labelled = bundled("evaluation")
    calibration = _first(source, options, progress, held_back=labelled is None) if source and calibrates else None
    if headless and options.eval_data:
        evaluation = unlabelled(options.eval_data, options, channels, progress)
    else:
        evaluation = evaluation_images(labelled, source, card, options, progress)
    return Inputs(
        checkpoint=checkpoint,
        reading=reading,
        card=card,
        calibration=calibration,
        evaluation=evaluation,
        notices=lines(
            preprocess.assumption,
            None if headless else named,  # a backbone has no classes to name
            renumbered(options.labels) if options.labels else None,
            *checkpoint.notes,
            *(remarks(source) if source else ()),
            *remarks(evaluation.source),
            calibration.remark if calibration else None,
            evaluation.remark,
            turned(calibration.source, calibration.indices, "calibration") if calibration else None,
            turned(evaluation.source, evaluation.indices, "evaluation"),
            reused(calibration, evaluation, options, progress or Silent()),
            subset(labelled, labels),
        ),
    )


def gather_backbone(options: Options, progress: Progress) -> Inputs:
    """The same for the network without its head: features in place of classes.

    Features are compared with the float network's, which needs no labels: any folder of images will do.
    """
    inputs = gather(options, progress, headless=True)
    spec = inputs.checkpoint.network.spec
    card = replace(
        inputs.card, name=f"{inputs.card.name}_features", labels=(), features=features(spec), heads=(), numbers=0
    )
    return replace(inputs, card=card, evaluation=replace(inputs.evaluation, labels=None))


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
    share = len(source) - (held_back_count(len(source)) if held_back else 0)
    if share < 1:
        raise DataError(
            f"{source.name} has one image: it would both set the INT8 ranges and measure them; give more images, or "
            "--eval-data"
        )
    count = min(options.calibration_images, share)
    images = Images(source=source, indices=tuple(choose(source, count, options.seed)), labels=None)
    most_bad = count // BAD_OF_CALIBRATION if options.max_bad_images is None else options.max_bad_images
    return checked(images, most_bad, progress)
