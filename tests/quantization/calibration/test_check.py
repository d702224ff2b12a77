from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from summaries import summary

from rexnet_export.pipeline.core.records import Preprocess
from rexnet_export.quantization.calibration.check import check_images, check_statistics

SIZE = 8
PREPROCESS = Preprocess(size=SIZE)
IDS = [f"photos/{index}.jpg" for index in range(100)]


@pytest.fixture
def photos() -> np.ndarray:
    """Pixels with ImageNet's mean and standard deviation."""
    noise = np.random.default_rng(0).normal(size=(100, SIZE, SIZE, 3))
    real = noise * PREPROCESS.std + PREPROCESS.mean
    return np.clip(np.rint(255 * real), 0, 255).astype(np.uint8)


def test_ordinary_images_get_no_warning(photos: np.ndarray) -> None:
    assert check_images(photos, IDS, PREPROCESS) == []


def test_few_images_and_a_single_one_are_counted(photos: np.ndarray) -> None:
    assert "one single image" in check_images(photos[:1], IDS, PREPROCESS)[0]
    assert "from 20 images only" in check_images(photos[:20], IDS, PREPROCESS)[0]
    assert check_images(photos[:32], IDS, PREPROCESS) == []


def test_repeated_images_are_counted_and_the_most_frequent_named(photos: np.ndarray) -> None:
    photos[1:4] = photos[0]
    assert check_images(photos, IDS, PREPROCESS) == []
    photos[50:60] = photos[7]
    (warning,) = check_images(photos, IDS, PREPROCESS)
    assert warning == "13 of 100 calibration images repeat others; photos/7.jpg is there 11 times"
    photos[:] = photos[0]
    assert check_images(photos, IDS, PREPROCESS)[0] == (
        "all 100 calibration images are the same picture (photos/0.jpg): they count as one"
    )


def test_images_of_one_colour_are_named(photos: np.ndarray) -> None:
    photos[3] = 0
    black = ["1 of 100 calibration images are black, first photos/3.jpg"]
    assert check_images(photos, IDS, PREPROCESS) == black
    photos[2] = (10, 20, 30)
    both = ["2 of 100 calibration images are of one colour, first photos/2.jpg"]
    assert check_images(photos, IDS, PREPROCESS) == both
    photos[2, 0, 0] = (10, 20, 31)
    assert check_images(photos, IDS, PREPROCESS) == black


def test_images_unlike_the_training_images_are_told_by_their_numbers(photos: np.ndarray) -> None:
    dark = photos // 8
    mean, spread = check_images(dark, IDS, PREPROCESS)
    expected = (dark / 255 - PREPROCESS.mean) / PREPROCESS.std
    for warning, numbers in ((mean, expected.mean(axis=(0, 1, 2))), (spread, expected.std(axis=(0, 1, 2)))):
        assert ", ".join(f"{number:.2f}" for number in numbers) in warning
    assert "means are" in mean
    assert "spread by" in spread
    wrong = Preprocess(size=SIZE, mean=(123.7, 116.3, 103.5), std=(58.4, 57.1, 57.4))
    assert len(check_images(photos, IDS, wrong)) == 2
    blue = photos.copy()
    blue[..., 2] = 255
    assert "channel means" in check_images(blue, IDS, PREPROCESS)[0]
    assert "2.64 after normalisation" in check_images(blue, IDS, PREPROCESS)[0]  # (1 - 0.406) / 0.225


@pytest.mark.parametrize(
    ("images", "repeated", "warned"), [(100, 4, False), (100, 5, True), (10, 1, True), (10, 0, False)]
)
def test_one_repeated_image_in_twenty_is_told(photos: np.ndarray, images: int, repeated: int, *, warned: bool) -> None:
    photos[1 : repeated + 1] = photos[0]
    found = [line for line in check_images(photos[:images], IDS, PREPROCESS) if "repeat others" in line]
    assert bool(found) == warned


@pytest.mark.parametrize(
    ("offset", "spread", "told"),
    [
        (0.0, 1.0, []),
        (1.45, 1.0, []),
        (1.55, 1.0, ["means are"]),
        (-1.55, 1.0, ["means are"]),
        (0.0, 0.31, []),
        (0.0, 0.29, ["spread by"]),
        (0.0, 2.9, []),
        (0.0, 3.1, ["spread by"]),
    ],
)
@pytest.mark.parametrize("channel", range(3))
def test_how_far_from_the_training_images_is_too_far(
    photos: np.ndarray, offset: float, spread: float, told: list[str], channel: int
) -> None:
    """The checkpoint's own mean and standard deviation are moved, of one channel."""
    means, deviations = (photos / 255).mean(axis=(0, 1, 2)), (photos / 255).std(axis=(0, 1, 2))
    deviations[channel] /= spread
    means[channel] -= offset * deviations[channel]
    found = check_images(photos, IDS, Preprocess(size=SIZE, mean=tuple(means), std=tuple(deviations)))
    assert len(found) == len(told)
    assert all(words in line for words, line in zip(told, found, strict=True))


@pytest.mark.parametrize(("percent", "warned"), [("99.8", False), ("99.81", True), ("100", False)])
def test_a_percentile_of_a_thousand_values_drops_one_at_each_end_from_99_8_on(percent: str, *, warned: bool) -> None:
    found = {"x": summary(np.arange(1000)[None, None])}
    assert bool(check_statistics(found, {"x": f"percentile-{percent}"})) == warned


def test_constant_tensors_and_percentiles_of_too_few_values_are_named(v1: SimpleNamespace) -> None:
    assert check_statistics(v1.statistics, dict.fromkeys(v1.statistics, "mse")) == []
    dead = {"stem": replace(v1.statistics["stem"], minimum=0.5, maximum=0.5)}
    two = check_statistics(v1.statistics, dict.fromkeys(("logits", "pool"), "percentile-99.99"))
    assert two[0].startswith("2 tensors have too few values for their percentile, first logits: ")
    assert check_statistics(v1.statistics | dead, {}) == [
        "1 tensors have one value on all calibration images, first stem"
    ]
    values = int(v1.statistics["logits"].counts.sum())
    (warning,) = check_statistics(v1.statistics, {"stem": "percentile-99", "logits": "percentile-99.99"})
    assert f"first logits: percentile-99.99 of {values} values drops none" in warning
    assert check_statistics(v1.statistics, {"logits": "percentile-100"}) == []
