"""RandAugment (Cubuk et al. 2020) on PIL images: a few operations of one strength, drawn for every image.

Operations, ranges and probabilities are those that `rand-m9-mstd0.5` names in the training recipe of the paper: two
operations an image, each carried out with probability 1/2, the strength normal around the magnitude with deviation 0.5.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageEnhance, ImageOps

MOST = 10.0  # the magnitude at which an operation is at its strongest
OPERATIONS_AN_IMAGE = 2
PROBABILITY = 0.5
DEVIATION = 0.5
FILL = (124, 116, 104)  # what turning and shifting uncovers: ImageNet's mean
LARGEST_TURN = 30.0  # degrees
LARGEST_SHEAR = 0.3
LARGEST_SHIFT = 0.45  # of the side
LARGEST_ADDITION = 110
LEAST_FACTOR, FACTORS = 0.1, 1.8  # of colour, contrast, brightness and sharpness: from 0.1 to 1.9, 1 changes nothing

type Operation = Callable[[Image.Image, float, float], Image.Image]


def rand_augment(image: Image.Image, magnitude: float, rng: Generator) -> Image.Image:
    """An RGB image after two drawn operations; `magnitude` is from 0 to 10."""
    for operation in rng.choice(len(OPERATIONS), OPERATIONS_AN_IMAGE):
        acts, strength, sign = rng.random() < PROBABILITY, rng.normal(magnitude, DEVIATION), rng.choice((-1.0, 1.0))
        if acts:
            image = OPERATIONS[operation](image, float(np.clip(strength, 0.0, MOST)) / MOST, float(sign))
    return image


def _affine(image: Image.Image, matrix: tuple[float, float, float, float, float, float]) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC, fillcolor=FILL)


def _enhanced(kind: Callable[[Image.Image], ImageEnhance._Enhance]) -> Operation:
    return lambda image, strength, _: kind(image).enhance(LEAST_FACTOR + FACTORS * strength)


def _rotated(image: Image.Image, strength: float, sign: float) -> Image.Image:
    return image.rotate(sign * strength * LARGEST_TURN, Image.Resampling.BICUBIC, fillcolor=FILL)


def _brightened_where_dark(image: Image.Image, strength: float, _: float) -> Image.Image:
    added = int(strength * LARGEST_ADDITION)
    return image.point([min(255, value + added) if value < 128 else value for value in range(256)] * 3)


OPERATIONS: tuple[Operation, ...] = (
    lambda image, _, __: ImageOps.autocontrast(image),
    lambda image, _, __: ImageOps.equalize(image),
    lambda image, _, __: ImageOps.invert(image),
    _rotated,
    lambda image, strength, _: ImageOps.posterize(image, max(1, int(strength * 4))),
    lambda image, strength, _: ImageOps.solarize(image, int(strength * 256)),
    _brightened_where_dark,
    _enhanced(ImageEnhance.Color),
    _enhanced(ImageEnhance.Contrast),
    _enhanced(ImageEnhance.Brightness),
    _enhanced(ImageEnhance.Sharpness),
    lambda image, strength, sign: _affine(image, (1, sign * strength * LARGEST_SHEAR, 0, 0, 1, 0)),
    lambda image, strength, sign: _affine(image, (1, 0, 0, sign * strength * LARGEST_SHEAR, 1, 0)),
    lambda image, strength, sign: _affine(image, (1, 0, sign * strength * LARGEST_SHIFT * image.width, 0, 1, 0)),
    lambda image, strength, sign: _affine(image, (1, 0, 0, 0, 1, sign * strength * LARGEST_SHIFT * image.height)),
)
