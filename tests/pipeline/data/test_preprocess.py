"""The resize and crop equal timm's evaluation transform, pixel for pixel."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from timm.data.transforms_factory import create_transform

from rexnet_export.pipeline.core.errors import DataError
from rexnet_export.pipeline.core.records import CROP_MODES, INTERPOLATIONS, CropMode, Interpolation, Preprocess, Size
from rexnet_export.pipeline.data.preprocess import resize_and_crop


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def reference(image: Image.Image, preprocess: Preprocess) -> NDArray[np.uint8]:
    transform = create_transform(
        preprocess.size,
        crop_pct=preprocess.crop_ratio,
        crop_mode=preprocess.crop_mode,
        interpolation=preprocess.interpolation,
        mean=preprocess.mean,
        is_training=False,
        normalize=False,
    )
    pixels: NDArray[np.uint8] = transform(image).numpy().transpose(1, 2, 0)
    return pixels


def test_ratios_of_published_checkpoints_resize_as_timm_does() -> None:
    for size, ratio in [(224, 0.875), (224, 0.95), (288, 0.95), (288, 1.0), (64, 1.0), (224, 0.9), (192, 0.875)]:
        assert Preprocess(size=size, crop_ratio=ratio).resize == (math.floor(size / ratio),) * 2, (size, ratio)


@pytest.mark.parametrize("mode", CROP_MODES)
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("shape", [(28, 28), (33, 57), (57, 33), (64, 64), (73, 73), (500, 375), (375, 501)])
def test_equals_timm_for_every_mode_and_interpolation(
    shape: tuple[int, int], interpolation: Interpolation, mode: CropMode
) -> None:
    preprocess = Preprocess(size=64, crop_mode=mode, crop_ratio=0.875, interpolation=interpolation)
    image = noise(*shape)
    assert np.array_equal(resize_and_crop(image, preprocess), reference(image, preprocess))


@settings(deadline=None, max_examples=120)
@given(
    width=st.integers(1, 130),
    height=st.integers(1, 130),
    size=st.sampled_from([32, 64, (64, 64), (96, 48), (48, 160), (65, 64)]),
    ratio=st.sampled_from([0.8, 0.875, 0.9, 0.95, 0.965, 1.0]),
    mode=st.sampled_from(CROP_MODES),
    mean=st.sampled_from([(0.485, 0.456, 0.406), (0.5, 0.5, 0.5), (0.0, 1.0, 1.5)]),
)
def test_equals_timm_for_any_shape(
    width: int, height: int, size: Size, ratio: float, mode: CropMode, mean: tuple[float, float, float]
) -> None:
    preprocess = Preprocess(size=size, crop_mode=mode, crop_ratio=ratio, mean=mean)
    image = noise(width, height)
    pixels = resize_and_crop(image, preprocess)
    assert pixels.dtype == np.uint8
    assert np.array_equal(pixels, reference(image, preprocess))


def test_an_image_of_the_right_size_is_unchanged() -> None:
    image = noise(64, 64)
    assert np.array_equal(resize_and_crop(image, Preprocess(size=64, crop_ratio=1.0)), np.asarray(image))


def test_a_sliver_that_would_fill_memory_is_refused() -> None:
    for mode in ("center", "border"):
        with pytest.raises(DataError, match="1 x 30000 pixels, too elongated"):
            resize_and_crop(noise(1, 30000), Preprocess(crop_mode=mode))
