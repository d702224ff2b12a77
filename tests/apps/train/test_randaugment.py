"""RandAugment: every operation does what its name says, and the drawing is the generator's alone."""

import numpy as np
import pytest
from PIL import Image

from rexnet_export.apps.train import randaugment
from rexnet_export.apps.train.augment import augment
from rexnet_export.apps.train.randaugment import OPERATIONS, rand_augment
from rexnet_export.apps.train.recipe import Augmentation
from rexnet_export.pipeline.core.records import Preprocess


@pytest.fixture
def image() -> Image.Image:
    coarse = np.random.default_rng(0).integers(30, 220, (6, 6, 3), np.uint8)
    return Image.fromarray(coarse).resize((48, 40), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("index", range(len(OPERATIONS)))
def test_every_operation_changes_pixels_and_keeps_size_and_mode(index: int, image: Image.Image) -> None:
    changed = OPERATIONS[index](image, 0.9, 1.0)
    assert (changed.size, changed.mode) == (image.size, "RGB")
    assert not np.array_equal(changed, image)


@pytest.mark.parametrize("index", [3, 6, 11, 12, 13, 14])
def test_at_no_strength_geometry_and_addition_change_nothing(index: int, image: Image.Image) -> None:
    np.testing.assert_allclose(np.asarray(OPERATIONS[index](image, 0.0, 1.0), int), np.asarray(image, int), atol=1)


def test_a_shift_moves_by_its_share_of_the_side_and_fills_with_the_mean(image: Image.Image) -> None:
    moved = np.asarray(OPERATIONS[13](image, 0.5 / 0.45 * 0.25, 1.0))  # 0.125 of 48 pixels
    np.testing.assert_array_equal(moved[:, :40], np.asarray(image)[:, 6:46])
    assert (moved[:, 43:] == randaugment.FILL).all()


def test_draws_depend_on_the_generator_alone_and_half_act(image: Image.Image) -> None:
    views = [np.asarray(rand_augment(image, 9.0, np.random.default_rng(seed))) for seed in range(300)]
    again = [np.asarray(rand_augment(image, 9.0, np.random.default_rng(seed))) for seed in range(5)]
    assert all(np.array_equal(one, other) for one, other in zip(views, again, strict=False))
    untouched = np.mean([np.array_equal(view, image) for view in views])
    assert 0.15 < untouched < 0.35  # a quarter: both operations idle


def test_training_images_get_it_where_asked(image: Image.Image) -> None:
    still = Augmentation(crop_area=1, flip=0, erase=0)
    strong = Augmentation(crop_area=1, flip=0, erase=0, randaugment=9)
    plain = augment(image, Preprocess(size=32), still, np.random.default_rng(1))
    views = [augment(image, Preprocess(size=32), strong, np.random.default_rng(seed)) for seed in range(8)]
    assert any(not np.array_equal(view, plain) for view in views)
