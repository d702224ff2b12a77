"""`rexnet-train`: train a ReXNet on an image folder, IDX files or the bundled sample."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rexnet_export.apps.terminal import Terminal, run_command
from rexnet_export.pipeline.augment import Augmentation
from rexnet_export.pipeline.checkpoint import save_checkpoint
from rexnet_export.pipeline.data import ImageSource, bundled, open_source
from rexnet_export.pipeline.errors import DataError, UsageError
from rexnet_export.pipeline.labels import read_labels
from rexnet_export.pipeline.progress import Progress, Silent
from rexnet_export.pipeline.records import INTERPOLATIONS, Preprocess
from rexnet_export.pipeline.rexnet import VARIANTS, ReXNet, architecture
from rexnet_export.pipeline.training import EpochResult, Recipe, Trainer, world

PROGRAM = "rexnet-train"
LOG_FILE = "log.jsonl"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = parser().parse_args(argv)

    def body(terminal: Terminal) -> int:
        train(options, terminal)
        return 0

    resume = f"the same command with --resume goes on from {options.output}"
    return run_command(PROGRAM, body, quiet=options.quiet, debug=options.debug, interrupted=resume)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    recipe, preprocess = Recipe(), Preprocess()
    p = argparse.ArgumentParser(prog=PROGRAM, description=__doc__)
    p.add_argument("--data", type=Path, help="training images: folder with one sub-folder per class, or an IDX file")
    p.add_argument("--eval-data", type=Path, help="evaluation images of the same kind")
    p.add_argument("--labels", type=Path, help="class names, one per line (default: the folder names)")
    p.add_argument("--variant", choices=VARIANTS, default="v1", help="ReXNetV1, ReXNet-lite or rexnetr (default v1)")
    p.add_argument("--width", type=float, default=1.0, help="width multiplier (default 1.0)")
    p.add_argument("--no-se", action="store_true", help="leave squeeze-excitation out")
    p.add_argument("--image-size", type=int, default=preprocess.size, help="input pixels, a multiple of 32")
    p.add_argument("--crop-ratio", type=float, default=preprocess.crop_ratio, help="evaluation crop / resize")
    p.add_argument("--interpolation", choices=INTERPOLATIONS, default=preprocess.interpolation)
    p.add_argument("--epochs", type=int, default=recipe.epochs)
    p.add_argument("--batch", type=int, default=recipe.batch, help="images per step over all devices")
    p.add_argument("--rate", type=float, default=recipe.rate, help="peak learning rate")
    p.add_argument("--warmup-epochs", type=float, default=recipe.warmup_epochs)
    p.add_argument("--weight-decay", type=float, default=recipe.weight_decay)
    p.add_argument("--label-smoothing", type=float, default=recipe.label_smoothing)
    p.add_argument("--average-decay", type=float, default=recipe.average_decay, help="of the averaged weights")
    p.add_argument("--crop-area", type=float, default=recipe.augmentation.crop_area, help="smallest random crop")
    p.add_argument("--flip", type=float, default=recipe.augmentation.flip, help="probability of a mirror image")
    p.add_argument("--erase", type=float, default=recipe.augmentation.erase, help="probability of an erased rectangle")
    p.add_argument("--seed", type=int, default=recipe.seed)
    p.add_argument("--workers", type=int, default=min(4, os.cpu_count() or 1), help="image loading processes")
    p.add_argument("--output", type=Path, default=Path("rexnet-train-out"))
    p.add_argument("--resume", action="store_true", help="go on from the state in the output folder")
    p.add_argument("--quiet", action="store_true")
    p.add_argument("--debug", action="store_true", help="show tracebacks")
    return p


def train(options: argparse.Namespace, progress: Progress) -> None:
    """Train, log every epoch to `log.jsonl`, and write `<model>.safetensors` at the end."""
    recipe, preprocess = _recipe(options), _preprocess(options)
    training, evaluation, labels = _sources(options)
    where = world()
    network = ReXNet(architecture(options.variant, options.width, classes=len(labels), use_se=not options.no_se))
    trainer = Trainer(network, recipe, preprocess, where)
    options.output.mkdir(parents=True, exist_ok=True)
    if options.resume:
        trainer.load_state(options.output)
    if not where.leads:
        progress = Silent()
    progress.note(
        f"{network.spec.name}, {len(labels)} classes, {preprocess.size} px: {len(training):,} training and "
        f"{len(evaluation):,} evaluation images on {where.size} x {where.device}"
    )
    for result in trainer.epochs(training, evaluation, progress, workers=options.workers):
        if where.leads:
            trainer.save_state(options.output)
            _log(options.output, result)
        progress.note(
            f"epoch {result.epoch}/{recipe.epochs}  loss {result.loss:.4f}  top-1 {result.top1:.2%}  "
            f"{result.images_per_second:,.0f} images/s"
        )
    final = trainer.finished_network()
    top1 = trainer.top1(final, evaluation, progress)
    if not where.leads:
        return
    path = options.output / f"{final.spec.name}.safetensors"
    save_checkpoint(
        path,
        final,
        labels=labels,
        preprocess=preprocess,
        metadata={
            "recipe": json.dumps(asdict(recipe), sort_keys=True),
            "epochs_trained": str(trainer.epoch),
            "top1": f"{top1:.4f}",
            "evaluation_images": str(len(evaluation)),
        },
        half=True,
    )
    progress.note(f"{path}: top-1 {top1:.2%} on {len(evaluation):,} images, as stored in half precision")


def _recipe(options: argparse.Namespace) -> Recipe:
    for name in ("epochs", "batch"):
        if getattr(options, name) < 1:
            message = f"--{name} {getattr(options, name)}: must be at least 1"
            raise UsageError(message)
    return Recipe(
        epochs=options.epochs,
        batch=options.batch,
        rate=options.rate,
        warmup_epochs=options.warmup_epochs,
        weight_decay=options.weight_decay,
        label_smoothing=options.label_smoothing,
        average_decay=options.average_decay,
        seed=options.seed,
        augmentation=Augmentation(crop_area=options.crop_area, flip=options.flip, erase=options.erase),
    )


def _preprocess(options: argparse.Namespace) -> Preprocess:
    if options.image_size < 32 or options.image_size % 32:
        message = f"--image-size {options.image_size}: must be a multiple of 32"
        raise UsageError(message)
    return Preprocess(size=options.image_size, crop_ratio=options.crop_ratio, interpolation=options.interpolation)


def _sources(options: argparse.Namespace) -> tuple[ImageSource, ImageSource, tuple[str, ...]]:
    if (options.data is None) != (options.eval_data is None):
        message = "--data and --eval-data go together: give both, or neither for the bundled sample"
        raise UsageError(message)
    if options.data is None:
        training, evaluation = bundled("calibration"), bundled("evaluation")
    else:
        training, evaluation = open_source(options.data, labelled=True), open_source(options.eval_data, labelled=True)
    labels = read_labels(options.labels) if options.labels else training.class_names
    if labels is None:
        classes = max(training.labels or [0]) + 1
        labels = tuple(str(index) for index in range(classes))
    if max(training.labels or [0]) >= len(labels):
        message = (
            f"label {max(training.labels or [0])} in {training.name} but only {len(labels)} class names: check --labels"
        )
        raise DataError(message)
    return training, evaluation, labels


def _log(folder: Path, result: EpochResult) -> None:
    with (folder / LOG_FILE).open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(asdict(result)) + "\n")


if __name__ == "__main__":
    sys.exit(main())
