"""What `rexnet-train` does: train, log every epoch, and write the checkpoint at the end."""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

import torch

from rexnet_export.apps.shared.text import done, rate
from rexnet_export.apps.train.distributed import World, world
from rexnet_export.apps.train.options import (
    DISTIL,
    chosen_preprocess,
    starting_options,
)
from rexnet_export.apps.train.qat import QatTrainer, require_one_process, starting_table
from rexnet_export.apps.train.recipe import Recipe
from rexnet_export.apps.train.trainer import STATE_FILE, EpochResult, Trainer
from rexnet_export.apps.train.transfer import transfer_images, with_new_head
from rexnet_export.pipeline.checkpoint.bundled import bundled_checkpoint
from rexnet_export.pipeline.checkpoint.load import LoadedCheckpoint, load, save_checkpoint
from rexnet_export.pipeline.core.errors import UsageError
from rexnet_export.pipeline.core.files import writing
from rexnet_export.pipeline.core.progress import Progress, Silent
from rexnet_export.pipeline.core.records import RGB, Preprocess, Reading
from rexnet_export.pipeline.data.settle import shown
from rexnet_export.pipeline.data.sources import ImageSource, training_images
from rexnet_export.pipeline.data.subset import usable
from rexnet_export.pipeline.graph.float_graph import float_graph
from rexnet_export.pipeline.labels.label_files import read_labels, renumbered
from rexnet_export.pipeline.model.architecture import architecture, stages_at
from rexnet_export.pipeline.model.published import IMAGENET_CLASSES, published_top1
from rexnet_export.pipeline.model.rexnet import ReXNet

LOG_FILE = "log.jsonl"
PUBLISHED_PIXELS = 224
GUESSING = "begin with a trained network (--from), or train for more --epochs"
BAD_OF_TRAINING = 100  # one image in so many may be unusable


def run(options: argparse.Namespace, progress: Progress) -> None:
    """Train, log every epoch to `log.jsonl`, and write `<model>.safetensors` at the end."""
    recipe: Recipe = options.asked_recipe

    where = world()
    if not where.leads:
        progress = Silent()
    _refuse_another_run(options)
    kind = _fine_tuner if options.qat else _transferred if options.start is not None else _trainer
    trainer, labels = kind(options, recipe, where, progress)
    progress.note(
        f"{trainer.name}, {len(labels)} classes, {shown(trainer.preprocess.size)} px: {len(trainer.training):,} "
        f"training and {len(trainer.evaluation):,} evaluation images on {where.size} x {where.device}"
    )
    published = _published(options, trainer, len(labels))
    if published:
        progress.note(published)
    for result in trainer.epochs(progress, workers=options.workers):
        if where.leads:
            _save_epoch(options.output, trainer, result)
        progress.note(
            f"epoch {result.epoch}/{recipe.epochs}  loss {result.loss:.4f}  top-1 {result.top1:.2%}  "
            f"{rate(result.images_per_second, 'images')}"
        )
    saved = _save_final(options.output, trainer, labels, progress)
    if published:
        progress.note(published)
    progress.note(saved)


def _published(options: argparse.Namespace, trainer: Trainer, classes: int) -> str | None:
    """What the paper's recipe is expected to reach, where it was asked for."""
    if not options.recipe:
        return None

    assert isinstance(trainer.network, ReXNet)
    spec, pixels = trainer.network.spec, trainer.preprocess.size
    known = spec.published_depth and (spec.squeezed or spec.variant == "lite")
    top1 = published_top1(spec.variant, spec.width) if known else None
    if top1 is None:
        return f"expected: nothing was published of {spec.name}"
    said = f"expected: top-1 {top1:.1f}% on ImageNet-1k at {PUBLISHED_PIXELS} px, published of {spec.name}"
    same = (classes, pixels) == (IMAGENET_CLASSES, PUBLISHED_PIXELS)
    return said if same else f"{said}; {classes} classes at {shown(pixels)} px do not compare with it"


def _transferred(
    options: argparse.Namespace, recipe: Recipe, where: World, progress: Progress
) -> tuple[Trainer, tuple[str, ...]]:
    """A trained network with a new head, and its labels."""
    # Its head is replaced: what stands between its layers need not be known.
    checkpoint = load(options.start, Reading(weights=options.weights, head_activation="none", headless=True))
    preprocess = _preprocess(options, checkpoint, progress)
    training, evaluation, labels = transfer_images(
        options.data, options.eval_data, _labels(options, progress), options.classes, recipe.seed, strict=options.strict
    )
    training, evaluation = _usable(training, evaluation, options, progress)
    torch.manual_seed(recipe.seed)
    network = with_new_head(checkpoint.network, len(labels))
    trainer = Trainer(network, recipe, preprocess, training, evaluation, where)
    _open_output(options, trainer)
    return trainer, labels


def _trainer(
    options: argparse.Namespace, recipe: Recipe, where: World, progress: Progress
) -> tuple[Trainer, tuple[str, ...]]:
    """A new network, or the one whose run is resumed, and its labels."""
    preprocess = chosen_preprocess(options, asdict(Preprocess())).preprocess
    training, evaluation, labels = training_images(
        options.data, options.eval_data, _labels(options, progress), strict=options.strict
    )
    training, evaluation = _usable(training, evaluation, options, progress)
    torch.manual_seed(recipe.seed)  # every process begins with the same weights
    spec = architecture(
        options.variant or "v1",
        options.width or 1.0,
        classes=len(labels),
        use_se=not options.no_se,
        stages=stages_at(options.depth or 1.0),
    )
    trainer = Trainer(ReXNet(spec), recipe, preprocess, training, evaluation, where)
    _open_output(options, trainer)
    return trainer, labels


def _fine_tuner(
    options: argparse.Namespace, recipe: Recipe, where: World, progress: Progress
) -> tuple[Trainer, tuple[str, ...]]:
    """A checkpoint under the table an export would choose, and its labels."""
    require_one_process(where)
    checkpoint = load(options.start or str(bundled_checkpoint()), Reading(weights=options.weights))
    if not checkpoint.network.spec.plain:
        raise UsageError(
            "--qat trains a network with one linear layer as its head; this one has more: export it as it is"
        )
    preprocess = _preprocess(options, checkpoint, progress)
    labels = checkpoint.labels or tuple(str(index) for index in range(checkpoint.network.spec.classes))
    training, evaluation, _ = training_images(options.data, options.eval_data, labels, strict=options.strict)
    training, evaluation = _usable(training, evaluation, options, progress)
    model = float_graph(checkpoint.network, preprocess)
    searching = starting_options(options, seed=recipe.seed)
    table = starting_table(model, training, preprocess, searching, progress)
    torch.manual_seed(recipe.seed)
    share = DISTIL if options.distil is None else options.distil
    trainer = QatTrainer(checkpoint.network, table, recipe, preprocess, training, evaluation, where, distil=share)
    _open_output(options, trainer)
    return trainer, labels


def _preprocess(options: argparse.Namespace, checkpoint: LoadedCheckpoint, progress: Progress) -> Preprocess:
    """A trained network's; what it does not state is assumed aloud, after what its file has to tell."""
    channels = checkpoint.network.spec.channels
    if channels != RGB:
        raise UsageError(f"the network takes {channels} channels, and training reads photos: export it as it is")
    for note in checkpoint.notes:
        progress.note(note)
    stated = checkpoint.stated.preprocess
    chosen = chosen_preprocess(options, stated.fields())
    if chosen.assumption:
        progress.note(chosen.assumption)
    return chosen.preprocess


def _usable(
    training: ImageSource, evaluation: ImageSource, options: argparse.Namespace, progress: Progress
) -> tuple[ImageSource, ImageSource]:
    """The images that can be decoded, all of them looked at before the first epoch; the others are named."""
    if options.data and options.eval_data and options.data.resolve() == options.eval_data.resolve():
        progress.note(
            f"--eval-data {options.eval_data} is what is trained on, so its accuracy is flattered; give other images"
        )
    most = options.max_bad_images
    return (
        usable(training, len(training) // BAD_OF_TRAINING if most is None else most, progress),
        usable(evaluation, most or 0, progress),
    )


def _save_final(folder: Path, trainer: Trainer, labels: tuple[str, ...], progress: Progress) -> str:
    """Measure the averaged weights as they are stored; the leading process stores them. What it comes to is said."""
    final = trainer.finished()
    top1, images = trainer.top1(final.measured, progress), len(trainer.evaluation)
    if not trainer.world.leads:
        return ""
    path = folder / f"{final.network.spec.name}.safetensors"
    metadata = {
        "recipe": json.dumps(asdict(trainer.recipe), sort_keys=True),
        "epochs_trained": str(trainer.epoch),
        "top1": f"{top1:.4f}",
        "evaluation_images": str(images),
        **final.metadata,
    }
    with writing(folder):
        save_checkpoint(
            path, final.network, labels=labels, preprocess=trainer.preprocess, metadata=metadata, half=final.half
        )
    stored = "half precision" if final.half else "INT8"
    said = f"{path} has top-1 {top1:.2%} on {images:,} images, as stored in {stored}"
    if (chance := no_better_than_chance(top1, images, len(labels))) is not None:
        return done(said, f"that is no better than guessing ({chance:.2%}): {GUESSING}")
    return done(said, f"export it: rexnet-export --checkpoint {path} --calibration-data DIR")


def no_better_than_chance(top1: float, images: int, classes: int) -> float | None:
    """The top-1 of guessing, where `top1` of so many images is not above it by two standard errors; else None."""
    chance = 1 / classes
    return chance if top1 <= chance + 2 * (chance * (1 - chance) / images) ** 0.5 else None


def _labels(options: argparse.Namespace, progress: Progress) -> tuple[str, ...] | None:
    if options.labels is None:
        return None
    if told := renumbered(options.labels):
        progress.note(told)
    return read_labels(options.labels)


def _refuse_another_run(options: argparse.Namespace) -> None:
    """Before images are looked at, and minutes spent on a quantization table."""
    with writing(options.output):
        if not options.resume and (options.output / STATE_FILE).exists():
            raise UsageError(
                f"--output {options.output} already holds a run ({STATE_FILE}): use --resume or another --output"
            )


def _open_output(options: argparse.Namespace, trainer: Trainer) -> None:
    """Go on from the folder's run, or begin one; whether it can be written shows now."""
    folder = options.output
    if options.resume:
        trainer.load_state(folder)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
        if trainer.world.leads and not options.resume:
            (folder / LOG_FILE).write_text("", encoding="utf-8")


def _save_epoch(folder: Path, trainer: Trainer, result: EpochResult) -> None:
    with writing(folder):
        trainer.save_state(folder)
        with (folder / LOG_FILE).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(asdict(result)) + "\n")
