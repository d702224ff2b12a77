"""The command line of `rexnet-train`: its options, and the recipe and preprocessing that they ask for."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from rexnet_export.apps.shared.flags import CommandParser, add_version, refuse_given
from rexnet_export.apps.train.recipe import FINE_TUNING, IMAGENET, TRANSFER, Augmentation, Recipe, check
from rexnet_export.pipeline.core.errors import UsageError
from rexnet_export.pipeline.core.records import CROP_MODES, INTERPOLATIONS, Preprocess
from rexnet_export.pipeline.data.settle import FLAGS, Settled, settled, shown, size_of
from rexnet_export.pipeline.export.options import EFFORTS, Options
from rexnet_export.pipeline.machine.environment import usable_cores

PROGRAM = "rexnet-train"
DESCRIPTION = """Train a ReXNet on an image folder, IDX files or the bundled sample; give a trained one other classes
(--from), or fine-tune it for INT8 (--qat)."""
VARIANTS = ("v1", "lite", "r")  # spelled here because their own module imports torch
WIDTHS = (0.1, 6.0)  # what can be read back from a checkpoint
DEPTHS = (0.01, 4.0)  # ... too
DISTIL = 1.0
LEVELS = f"{', '.join(EFFORTS[:-1])} or {EFFORTS[-1]} (default: {Options().effort})"
RECIPE_OPTIONS = {
    "epochs": "",
    "batch": "images per step over all devices",
    "rate": "peak learning rate",
    "warmup_epochs": "",
    "weight_decay": "",
    "label_smoothing": "",
    "average_decay": "of the averaged weights",
    "layer_decay": "how much slower each layer learns than the one above it",
    "frozen_epochs": "in which only the head is trained",
    "crop_area": "smallest random crop",
    "flip": "probability of a mirror image",
    "erase": "probability of an erased rectangle",
    "randaugment": "magnitude of RandAugment, 0 for none",
    "seed": "",
}
RECIPES = {"imagenet": IMAGENET}
KINDS = {"--recipe imagenet": IMAGENET, "--from": TRANSFER, "--qat": FINE_TUNING}
OF_QAT = ("effort", "statistic", "distil")
OF_A_NEW_HEAD = ("classes", "layer_decay", "frozen_epochs")
DECIDED_BY_SHAPES = ("variant", "width", "depth", "no_se")
OF_PREPROCESSING = {name: flag.removeprefix("--").replace("-", "_") for name, flag in FLAGS.items()}
OF_THE_NETWORK = (*DECIDED_BY_SHAPES, *OF_PREPROCESSING.values(), "labels")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    preprocess = Preprocess()
    p = CommandParser(prog=PROGRAM, description=DESCRIPTION)
    p.add_argument("--data", type=Path, help="training images: folder with one sub-folder per class, or an IDX file")
    p.add_argument("--eval-data", type=Path, help="evaluation images of the same kind")
    p.add_argument(
        "--labels",
        type=Path,
        help="class names in class order: lines, JSON or CSV (default: the folder names, sorted as strings)",
    )
    p.add_argument("--strict", action="store_true", help="refuse folders that hold other files than images")
    p.add_argument(
        "--max-bad-images",
        type=int,
        metavar="N",
        help="how many unusable images of a data set to leave out (default: 1 %% of --data, none of --eval-data)",
    )
    p.add_argument("--qat", action="store_true", help="fine-tune a checkpoint for INT8 instead of training a network")
    p.add_argument(
        "--from",
        dest="start",
        metavar="CHECKPOINT",
        help="trained network to give a new head and train on; with --qat what is fine-tuned (default: the bundled)",
    )
    p.add_argument("--weights", metavar="NAME", help="which of several networks in CHECKPOINT (default: averaged)")
    p.add_argument("--classes", type=int, help="how many classes --data must have, with --from")
    p.add_argument("--recipe", choices=RECIPES, help="hyper-parameters to start from: imagenet is the paper's")
    p.add_argument("--effort", metavar="LEVEL", help=f"how hard --qat searches for INT8 first, as an export: {LEVELS}")
    p.add_argument("--statistic", help="INT8 ranges --qat starts from (default: as an export with that effort)")
    p.add_argument("--distil", type=float, help=f"share of the float network in --qat's loss (default {DISTIL:g})")
    p.add_argument("--variant", choices=VARIANTS, help="ReXNetV1, ReXNet-lite or rexnetr (default v1)")
    p.add_argument("--width", type=float, help="width multiplier (default 1.0)")
    p.add_argument("--depth", type=float, help="depth multiplier, timm's depth_mult (default 1.0)")
    p.add_argument("--no-se", action="store_true", default=None, help="leave squeeze-excitation out")
    text = f"input pixels, or height and width, multiples of 16 (default {preprocess.size})"
    p.add_argument("--image-size", type=int, nargs="+", metavar=("PX", "W"), help=text)
    p.add_argument(
        "--crop-mode",
        choices=CROP_MODES,
        help=f"of the evaluation images, as an export (default {preprocess.crop_mode})",
    )
    p.add_argument("--crop-ratio", type=float, help=f"evaluation crop / resize (default {preprocess.crop_ratio:g})")
    p.add_argument("--interpolation", choices=INTERPOLATIONS, help=f"(default {preprocess.interpolation})")
    for name in ("mean", "std"):
        text = f"of pixels in [0, 1] (default {shown(getattr(preprocess, name))})"
        p.add_argument(f"--{name}", type=float, nargs="+", metavar=("R", "G B"), help=text)
    for name, text in RECIPE_OPTIONS.items():
        default, *others = (_recipe_fields(chosen)[name] for chosen in (Recipe(), *KINDS.values()))
        said = [f"{kind} {other}" for kind, other in zip(KINDS, others, strict=True) if other != default]
        helped = f"{text} ({', '.join([f'default {default}', *said])})".strip()
        p.add_argument(f"--{name.replace('_', '-')}", type=type(default), help=helped)
    p.add_argument("--workers", type=int, default=min(4, usable_cores()), help="image loading processes")
    p.add_argument("--output", type=Path, default=Path("rexnet-train-out"))
    p.add_argument("--resume", action="store_true", help="go on from the state in the output folder")
    p.add_argument("--quiet", action="store_true")
    p.add_argument("--debug", action="store_true", help="show tracebacks")
    add_version(p)
    p.set_defaults(settle=_settle, work="rexnet_export.apps.train.run_training:run")
    return p


def _settle(options: argparse.Namespace) -> None:
    options.asked_recipe = _chosen_recipe(options)
    _check_ranges(options)


def _chosen_recipe(options: argparse.Namespace) -> Recipe:
    """The recipe of the kind of run, with what was asked for."""
    given = {name: value for name in RECIPE_OPTIONS if (value := getattr(options, name)) is not None}
    recipe = _starting_recipe(options)
    of_images = {field.name for field in fields(Augmentation)} & given.keys()
    augmentation = replace(recipe.augmentation, **{name: given.pop(name) for name in of_images})
    if "epochs" in given:
        given.setdefault("warmup_epochs", min(recipe.warmup_epochs, given["epochs"] / 2))
        given.setdefault("frozen_epochs", min(recipe.frozen_epochs, max(0, given["epochs"] - 1)))
    return replace(recipe, augmentation=augmentation, **given)


def _starting_recipe(options: argparse.Namespace) -> Recipe:
    if options.recipe:
        return RECIPES[options.recipe]
    if options.qat:
        return FINE_TUNING
    return TRANSFER if options.start is not None else Recipe()


def _recipe_fields(recipe: Recipe) -> dict[str, Any]:
    return {**asdict(recipe), **asdict(recipe.augmentation)}


def chosen_preprocess(options: argparse.Namespace, stated: Mapping[str, Any]) -> Settled:
    """What was asked for, over what a trained network states, or the defaults of a new one."""
    given = {name: getattr(options, flag) for name, flag in OF_PREPROCESSING.items()}
    given |= {name: tuple(given[name]) for name in ("mean", "std") if given[name] is not None}
    given["size"] = None if options.image_size is None else size_of(options.image_size)
    return settled(given, stated, {})


def _check_ranges(options: argparse.Namespace) -> None:
    """Refuse what no run could honour, or what the kind of run does not know."""
    if options.max_bad_images is not None:
        check("max-bad-images", options.max_bad_images, "at least 0", allowed=options.max_bad_images >= 0)
    check("workers", options.workers, "at least 0", allowed=options.workers >= 0)
    if options.recipe and (options.qat or options.start is not None):
        raise UsageError(f"--recipe {options.recipe} trains a new network: leave --from and --qat out, or --recipe")
    if options.qat:
        refuse_given(options, OF_THE_NETWORK, "with --qat: the checkpoint decides that; leave it out")
        refuse_given(options, OF_A_NEW_HEAD, "goes with a new head, not with --qat; leave it out")
        _check_qat(options)
        return
    refuse_given(options, OF_QAT, "goes with --qat, which fine-tunes a checkpoint for INT8: add it, or leave it out")
    if options.start is not None:
        refuse_given(options, DECIDED_BY_SHAPES, "with --from: the checkpoint decides that; leave it out")
    else:
        refuse_given(options, ("weights",), "goes with --from or --qat, which start from a checkpoint: leave it out")
        refuse_given(
            options, ("classes",), "goes with --from, which gives a trained network other classes: leave it out"
        )
    for name, (least, most) in (("width", WIDTHS), ("depth", DEPTHS)):
        value = getattr(options, name)
        if value is not None:
            check(name, value, f"from {least} to {most}", allowed=least <= value <= most)
    if options.classes is not None:
        check("classes", options.classes, "at least 2", allowed=options.classes >= 2)


def _check_qat(options: argparse.Namespace) -> None:
    starting_options(options, seed=0)
    if options.distil is not None:
        check("distil", options.distil, "from 0 to 1", allowed=0 <= options.distil <= 1)


def starting_options(options: argparse.Namespace, *, seed: int) -> Options:
    """The export whose table fine-tuning starts from."""
    return Options(effort=options.effort or Options().effort, statistic=options.statistic, seed=seed)
