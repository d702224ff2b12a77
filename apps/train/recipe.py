"""The hyper-parameters of a training run, without torch, so that a command line can show and check them at once."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from rexnet_export.pipeline.core.errors import UsageError

SEEDS = 2**32
SMALLEST_SHARE = 2


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Smallest area of the random crop, probabilities of a mirror image and of an erased rectangle, and RandAugment's
    magnitude (0: none).
    """

    crop_area: float = 0.35
    flip: float = 0.5
    erase: float = 0.2
    randaugment: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what is no share of an image, or no probability."""
        check("crop-area", self.crop_area, "above 0 and at most 1", allowed=0 < self.crop_area <= 1)
        check("flip", self.flip, "from 0 to 1", allowed=0 <= self.flip <= 1)
        check("erase", self.erase, "from 0 to 1", allowed=0 <= self.erase <= 1)
        check("randaugment", self.randaugment, "from 0 to 10", allowed=0 <= self.randaugment <= 10)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Hyper-parameters of one run; `batch` is the global batch over all devices, `rate` its peak learning rate.

    Each layer below the head learns `layer_decay` times as fast as the one above it; the head alone in the first
    `frozen_epochs`.
    """

    epochs: int = 12
    batch: int = 128
    rate: float = 0.1
    warmup_epochs: float = 1.0
    momentum: float = 0.9
    weight_decay: float = 1e-4
    label_smoothing: float = 0.1
    average_decay: float = 0.999
    layer_decay: float = 1.0
    frozen_epochs: int = 0
    seed: int = 0
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        """Refuse values no run could honour; NaN is among them."""
        check("epochs", self.epochs, "at least 1", allowed=self.epochs >= 1)
        check("batch", self.batch, "at least 1", allowed=self.batch >= 1)
        check("rate", self.rate, "above 0 and finite", allowed=0 < self.rate < math.inf)
        warms_up = 0 <= self.warmup_epochs < self.epochs
        check("warmup-epochs", self.warmup_epochs, f"from 0 to below --epochs {self.epochs}", allowed=warms_up)
        decays = 0 <= self.weight_decay < math.inf
        check("weight-decay", self.weight_decay, "at least 0 and finite", allowed=decays)
        check("label-smoothing", self.label_smoothing, "from 0 to 1", allowed=0 <= self.label_smoothing <= 1)
        check("average-decay", self.average_decay, "from 0 to below 1", allowed=0 <= self.average_decay < 1)
        check("layer-decay", self.layer_decay, "above 0 and at most 1", allowed=0 < self.layer_decay <= 1)
        thaws = 0 <= self.frozen_epochs < self.epochs
        check("frozen-epochs", self.frozen_epochs, f"from 0 to below --epochs {self.epochs}", allowed=thaws)
        check("seed", self.seed, f"from 0 to {SEEDS - 1}", allowed=0 <= self.seed < SEEDS)


def check(flag: str, value: float, wanted: str, *, allowed: bool) -> None:
    """Refuse the value of a flag in one line."""
    if not allowed:
        raise UsageError(f"--{flag} {value}: must be {wanted}")


def check_batch(batch: int, *, images: int, processes: int) -> None:
    """Refuse a global batch that cannot be cut from this many images into one share per process."""
    if batch % processes:
        raise UsageError(f"--batch {batch} does not divide over {processes} processes: choose a multiple")
    if batch < SMALLEST_SHARE * processes:
        raise UsageError(f"--batch {batch}: BatchNorm needs at least {SMALLEST_SHARE} images for each process")
    if images < batch:
        raise UsageError(f"{images} training images are fewer than one batch of {batch}: lower --batch")


def batch_sizes(images: int, batch: int, processes: int) -> tuple[int, ...]:
    """Global batches that every image is in, as even as can be and none above `batch`, each a multiple of `processes`.

    A small last one would have statistics unlike the others' in BatchNorm, which takes no single image at all: where
    no batch of two in a share is left, one is larger than was asked. Up to `processes - 1` images are taken twice.
    """
    shares, most = math.ceil(images / processes), batch // processes
    steps = math.ceil(shares / most)
    if shares // steps < SMALLEST_SHARE:
        steps = max(1, shares // SMALLEST_SHARE)
    least, larger = divmod(shares, steps)
    return tuple(processes * (least + (step < larger)) for step in range(steps))


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """Linear warm-up to `rate`, then half a cosine to zero over the remaining steps."""
    warmup = recipe.warmup_epochs * steps_per_epoch
    if step < warmup:
        return recipe.rate * (step + 1) / (warmup + 1)
    done = (step - warmup) / max(1.0, recipe.epochs * steps_per_epoch - warmup)
    return recipe.rate * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


FINE_TUNING = Recipe(
    epochs=3,
    batch=64,
    rate=5e-4,
    warmup_epochs=0.1,
    weight_decay=0.0,
    label_smoothing=0.0,
    average_decay=0.99,
    augmentation=Augmentation(crop_area=0.7, erase=0.0),
)  # of a quantized network

IMAGENET = Recipe(
    epochs=400,
    batch=512,
    rate=0.5,
    warmup_epochs=5.0,  # the paper does not say whether it warms up
    weight_decay=1e-5,
    average_decay=0.9999,  # nor whether it averages
    augmentation=Augmentation(crop_area=0.08, randaugment=9.0),
)  # the paper's, for ImageNet-1k

TRANSFER = Recipe(
    epochs=10,
    batch=64,
    rate=0.1,
    average_decay=0.99,
    layer_decay=0.9,
    frozen_epochs=1,
)  # of a trained network to other classes
