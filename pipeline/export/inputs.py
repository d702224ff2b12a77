"""Settling what an export works on: the checkpoint, what it says of itself, and which images serve it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from rexnet_export.pipeline.core.errors import DataError
from rexnet_export.pipeline.core.records import ModelCard
from rexnet_export.pipeline.data.labels import read_labels
from rexnet_export.pipeline.data.selection import Images, checked, labelled_images
from rexnet_export.pipeline.data.settle import Settled, settled
from rexnet_export.pipeline.data.sources import ImageSource, bundled, choose, open_source
from rexnet_export.pipeline.export.options import Options
from rexnet_export.pipeline.model.checkpoint import LoadedCheckpoint, load
from rexnet_export.pipeline.model.checkpoint_metadata import QPARAMS_KEY

BUNDLED_CHECKPOINT = "rexnet_100-fashion-mnist-64.safetensors"
HELD_BACK_FRACTION = 0.2
HELD_BACK_IMAGES = 512


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """A loaded checkpoint, its card, the images to calibrate and to evaluate on, and notices on what was assumed."""

    checkpoint: LoadedCheckpoint
    card: ModelCard
    calibration: Images | None
    evaluation: Images
    notices: tuple[str, ...] = ()


def gather(options: Options) -> Inputs:
    """Load the checkpoint and open the images; everything that can be refused early is refused here."""
    checkpoint = load(options.checkpoint or str(bundled_checkpoint()))
    labelled = open_source(options.eval_data, labelled=True) if options.eval_data else None
    stated = checkpoint.stated.preprocess
    preprocess = settled(options.preprocess, stated.fields(str(checkpoint.file.path)), stated.sources)
    card = _card(checkpoint, options, preprocess, labelled)
    samples_fit = card.labels == bundled("evaluation").class_names
    # A checkpoint from quantization-aware training brings its table, unless other images are asked for.
    brings_table = QPARAMS_KEY in checkpoint.metadata and options.calibration_data is None
    calibrates = options.precision == "int8" and options.qparams is None and not brings_table
    calibration = _calibration(options, samples_fit=samples_fit, needed=calibrates)
    if labelled is None and samples_fit:
        labelled = bundled("evaluation")
    return Inputs(
        checkpoint=checkpoint,
        card=card,
        calibration=_first(calibration, options, held_back=labelled is None) if calibration and calibrates else None,
        evaluation=labelled_images(labelled, card, options.eval_images, options.seed)
        if labelled
        else _held_back(calibration, options),
        notices=(preprocess.assumption,) if preprocess.assumption else (),
    )


def bundled_checkpoint() -> Path:
    """The trained checkpoint that comes with the package."""
    return Path(str(files("rexnet_export.assets").joinpath(BUNDLED_CHECKPOINT)))


def _card(
    checkpoint: LoadedCheckpoint, options: Options, preprocess: Settled, evaluation: ImageSource | None
) -> ModelCard:
    spec = checkpoint.network.spec
    labels = read_labels(options.labels) if options.labels else checkpoint.labels
    if labels is None and evaluation and len(evaluation.class_names or ()) == spec.classes:
        labels = evaluation.class_names
    labels = labels or tuple(str(index) for index in range(spec.classes))
    if len(labels) != spec.classes:
        raise DataError(
            f"{len(labels)} labels in {options.labels or 'the checkpoint'} but the network has {spec.classes} classes; "
            f"give --labels with {spec.classes} lines"
        )
    return ModelCard(
        name=spec.name,
        labels=labels,
        preprocess=preprocess.preprocess,
        preprocess_source=preprocess.source,
        checkpoint_sha256=checkpoint.file.sha256,
    )


def _calibration(options: Options, *, samples_fit: bool, needed: bool) -> ImageSource | None:
    if options.calibration_data:
        return open_source(options.calibration_data, labelled=False)
    if samples_fit:
        return bundled("calibration")
    if needed:
        raise DataError(
            "INT8 needs images like those the model will see: give --calibration-data DIR (no labels needed); the "
            "bundled images only serve models with the bundled labels"
        )
    return None


def _first(source: ImageSource, options: Options, *, held_back: bool) -> Images:
    """The images that set the ranges; `held_back` leaves some to measure agreement on."""
    share = len(source) - (_held_back_count(len(source)) if held_back else 0)
    if share < 1:
        raise DataError(
            f"{source.name} has one image: it would both set the INT8 ranges and measure them; give more images, or "
            "--eval-data"
        )
    count = min(options.calibration_images, share)
    return checked(Images(source=source, indices=tuple(choose(source, count, options.seed)), labels=None))


def _held_back(source: ImageSource | None, options: Options) -> Images:
    """Unlabelled images to measure agreement on: the calibration images' other end, or the bundled ones."""
    chosen = source or bundled("evaluation")
    count = _held_back_count(len(chosen))
    if options.eval_images:
        count = min(count, options.eval_images)
    order = choose(chosen, len(chosen), options.seed)
    return checked(Images(source=chosen, indices=tuple(order[-count:]), labels=None))


def _held_back_count(images: int) -> int:
    return max(1, min(HELD_BACK_IMAGES, round(HELD_BACK_FRACTION * images)))
