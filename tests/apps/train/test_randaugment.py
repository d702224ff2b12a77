"""RandAugment: every operation does what its name says, and the drawing is the generator's alone."""

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

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
    assert (moved[:, 43:] == (124, 116, 104)).all()


def test_a_shear_moves_a_row_by_three_tenths_of_its_height(image: Image.Image) -> None:
    """At 2/9 pixels a row, row 4 (whose middle lies 4.5 down) moves by 1 and row 13 by 3; so do columns."""
    strength = (2 / 9) / 0.3
    across, down = (np.asarray(OPERATIONS[index](image, strength, 1.0)) for index in (11, 12))
    pixels = np.asarray(image)
    for place, moved in ((4, 1), (13, 3)):
        np.testing.assert_array_equal(across[place, :-moved], pixels[place, moved:])
        np.testing.assert_array_equal(down[:-moved, place], pixels[moved:, place])


@pytest.mark.parametrize("strength", [0.0, 0.5, 0.9, 1.0])
def test_strengths_mean_what_the_paper_says(image: Image.Image, strength: float) -> None:
    factor = 0.1 + 1.8 * strength
    turned = image.rotate(30 * strength, Image.Resampling.BICUBIC, fillcolor=(124, 116, 104))
    pixels = np.asarray(image, int)
    expected = {
        3: turned,
        4: ImageOps.posterize(image, max(1, int(4 * strength))),
        5: ImageOps.solarize(image, int(256 * strength)),
        6: np.where(pixels < 128, np.minimum(pixels + int(110 * strength), 255), pixels),
        7: ImageEnhance.Color(image).enhance(factor),
        8: ImageEnhance.Contrast(image).enhance(factor),
        9: ImageEnhance.Brightness(image).enhance(factor),
        10: ImageEnhance.Sharpness(image).enhance(factor),
    }
    for index, wanted in expected.items():
        np.testing.assert_array_equal(np.asarray(OPERATIONS[index](image, strength, 1.0)), np.asarray(wanted))


def test_the_strongest_is_magnitude_ten(image: Image.Image) -> None:
    """Far above it the strength stays, and each image is what two drawn operations at full strength make of it."""
    views = [np.asarray(rand_augment(image, magnitude, np.random.default_rng(5))) for magnitude in (15.0, 1000.0)]
    np.testing.assert_array_equal(*views)


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
