"""`rexnet-train`: train a ReXNet on an image folder, IDX files or the bundled sample."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rexnet_export.apps.terminal import Terminal, run_command
from rexnet_export.pipeline.errors import CheckpointError, UsageError
from rexnet_export.pipeline.progress import Progress, Silent
from rexnet_export.pipeline.recipe import Augmentation, Recipe, check
from rexnet_export.pipeline.records import INTERPOLATIONS, Preprocess

if TYPE_CHECKING:
    from rexnet_export.pipeline.data import ImageSource
    from rexnet_export.pipeline.training import EpochResult, Trainer

PROGRAM = "rexnet-train"
LOG_FILE = "log.jsonl"
VARIANTS = ("v1", "lite", "r")  # spelled here because their own module imports torch
WIDTHS = (0.1, 6.0)  # what can be read back from a checkpoint


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = parser().parse_args(argv)

    def body(terminal: Terminal) -> int:
        train(options, terminal)
        return 0

    after = f"after a finished epoch, --resume goes on from {options.output}; before the first, start again"
    return run_command(PROGRAM, body, quiet=options.quiet, debug=options.debug, interrupted=after)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    recipe, preprocess = Recipe(), Preprocess()
    p = argparse.ArgumentParser(prog=PROGRAM, description=__doc__)
    p.add_argument("--data", type=Path, help="training images: folder with one sub-folder per class, or an IDX file")
    p.add_argument("--eval-data", type=Path, help="evaluation images of the same kind")
    p.add_argument(
        "--labels",
        type=Path,
        help="class names in class order, one per line (default: the folder names)",
    )
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
    _check_ranges(options)
    # Imported late: torch alone takes seconds, and --help and a wrong option should not wait for it.
    import torch  # noqa: PLC0415

    from rexnet_export.pipeline.data import check_images  # noqa: PLC0415
    from rexnet_export.pipeline.rexnet import ReXNet, architecture  # noqa: PLC0415
    from rexnet_export.pipeline.training import Trainer, world  # noqa: PLC0415

    training, evaluation, labels = _sources(options)
    where = world()
    torch.manual_seed(recipe.seed)  # every process begins with the same weights
    network = ReXNet(architecture(options.variant, options.width, classes=len(labels), use_se=not options.no_se))
    trainer = Trainer(network, recipe, preprocess, training, evaluation, where)
    _open_output(options, trainer)
    for source in (training, evaluation):
        check_images(source, range(len(source)))
    if not where.leads:
        progress = Silent()
    progress.note(
        f"{network.spec.name}, {len(labels)} classes, {preprocess.size} px: {len(training):,} training and "
        f"{len(evaluation):,} evaluation images on {where.size} x {where.device}"
    )
    for result in trainer.epochs(progress, workers=options.workers):
        if where.leads:
            _save_epoch(options.output, trainer, result)
        progress.note(
            f"epoch {result.epoch}/{recipe.epochs}  loss {result.loss:.4f}  top-1 {result.top1:.2%}  "
            f"{result.images_per_second:,.0f} images/s"
        )
    _save_final(options.output, trainer, labels, progress)


def _save_final(folder: Path, trainer: Trainer, labels: tuple[str, ...], progress: Progress) -> None:
    """Measure the averaged weights as they are stored; the leading process stores them."""
    from rexnet_export.pipeline.checkpoint import save_checkpoint  # noqa: PLC0415 - imports torch

    final = trainer.finished_network()
    top1, images = trainer.top1(final, progress), len(trainer.evaluation)
    if not trainer.world.leads:
        return
    path = folder / f"{final.spec.name}.safetensors"
    metadata = {
        "recipe": json.dumps(asdict(trainer.recipe), sort_keys=True),
        "epochs_trained": str(trainer.epoch),
        "top1": f"{top1:.4f}",
        "evaluation_images": str(images),
    }
    with _writing(folder):
        save_checkpoint(path, final, labels=labels, preprocess=trainer.preprocess, metadata=metadata, half=True)
    progress.note(f"{path}: top-1 {top1:.2%} on {images:,} images, as stored in half precision")


def _recipe(options: argparse.Namespace) -> Recipe:
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
    size, ratio = options.image_size, options.crop_ratio
    check("image-size", size, "a multiple of 32", allowed=size >= 32 and size % 32 == 0)
    check("crop-ratio", ratio, "above 0 and at most 1", allowed=0 < ratio <= 1)
    return Preprocess(size=size, crop_ratio=ratio, interpolation=options.interpolation)


def _check_ranges(options: argparse.Namespace) -> None:
    least, most = WIDTHS
    check("width", options.width, f"from {least} to {most}", allowed=least <= options.width <= most)
    check("workers", options.workers, "at least 0", allowed=options.workers >= 0)


def _sources(options: argparse.Namespace) -> tuple[ImageSource, ImageSource, tuple[str, ...]]:
    """Training and evaluation images, both labelled in the order of the class names."""
    from rexnet_export.pipeline.data import bundled, match_labels, open_source  # noqa: PLC0415 - imports numpy
    from rexnet_export.pipeline.labels import read_labels  # noqa: PLC0415

    if (options.data is None) != (options.eval_data is None):
        raise UsageError("--data and --eval-data go together: give both, or neither for the bundled sample")
    if options.data is None:
        training, evaluation = bundled("calibration"), bundled("evaluation")
    else:
        training, evaluation = open_source(options.data, labelled=True), open_source(options.eval_data, labelled=True)
    labels = read_labels(options.labels) if options.labels else training.class_names
    if labels is None:
        labels = tuple(str(index) for index in range(max(training.labels or [0]) + 1))
    return match_labels(training, labels), match_labels(evaluation, labels), labels


def _open_output(options: argparse.Namespace, trainer: Trainer) -> None:
    """Go on from the folder's run, or begin one where there is none; whether it can be written shows now."""
    from rexnet_export.pipeline.training import STATE_FILE  # noqa: PLC0415 - imports torch

    folder = options.output
    if options.resume:
        trainer.load_state(folder)
    elif (folder / STATE_FILE).exists():
        raise UsageError(f"--output {folder} already holds a run ({STATE_FILE}): use --resume or another --output")
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
        if trainer.world.leads and not options.resume:
            (folder / LOG_FILE).write_text("", encoding="utf-8")


def _save_epoch(folder: Path, trainer: Trainer, result: EpochResult) -> None:
    with _writing(folder):
        trainer.save_state(folder)
        with (folder / LOG_FILE).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(asdict(result)) + "\n")


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Say in one line that the output folder cannot be written, or that its disk is full."""
    try:
        yield
    except (OSError, CheckpointError) as error:
        cause = error.__cause__ if isinstance(error, CheckpointError) else error
        if not isinstance(cause, OSError):
            raise
        reason = cause.strerror or type(cause).__name__
        raise UsageError(f"--output {folder} cannot be written ({reason}): make room or name another folder") from error


if __name__ == "__main__":
    sys.exit(main())
