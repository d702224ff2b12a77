"""Which images and classes are far noisier than the median one."""

from dataclasses import replace

import numpy as np
import pytest

from rexnet_export.pipeline.accuracy.class_accuracy import ClassAccuracy
from rexnet_export.pipeline.accuracy.compare import EQUAL
from rexnet_export.pipeline.accuracy.image_noise import ImageNoise, NoisyImage, image_noise, noisy_classes
from rexnet_export.pipeline.core.records import NotMeasured

IDS = ("a", "b", "c", "d", "e")


def noisy(*levels: float) -> tuple[np.ndarray, np.ndarray]:
    """Logits of a reference, and those of a file with these SQNR in dB."""
    reference = np.full((len(levels), 2), 2.0, np.float32)
    return reference, reference + np.float32(2.0) * 10 ** (-np.array(levels, np.float32)[:, None] / 20)


@pytest.mark.parametrize(("level", "far"), [(18.1, 0), (17.9, 1)])
def test_an_image_is_far_worse_more_than_twelve_decibels_under_the_median(level: float, far: int) -> None:
    found = image_noise(*noisy(30, 31, level, 30, 29), IDS)
    assert isinstance(found, ImageNoise)
    assert (found.median_db, found.far_worse) == (pytest.approx(30, abs=0.01), far)
    assert [image.id for image in found.worst] == ["c"] * far


@pytest.mark.parametrize(("level", "far"), [(20.1, 0), (19.9, 1)])
def test_what_is_above_twenty_decibels_is_harmless(level: float, far: int) -> None:
    found = image_noise(*noisy(40, 41, level, 40, 39), IDS)
    assert isinstance(found, ImageNoise)
    assert found.far_worse == far


def test_the_worst_three_are_named() -> None:
    found = image_noise(*noisy(*[40.0] * 6, 10, 2, 8, 5), [str(image) for image in range(10)])
    assert isinstance(found, ImageNoise)
    assert found.far_worse == 4
    assert found.worst == tuple(NoisyImage(id=name, sqnr_db=level) for name, level in (("7", 2), ("9", 5), ("8", 8)))


def test_equal_logits_have_no_noise_and_equal_images_do_not_count() -> None:
    reference, other = noisy(30, 30, 30, 30, 10)
    assert image_noise(reference, reference, IDS) == EQUAL
    other[:2] = reference[:2]
    found = image_noise(reference, other, IDS)
    assert isinstance(found, ImageNoise)
    assert (found.median_db, [image.id for image in found.worst]) == (pytest.approx(30, abs=0.01), ["e"])


def test_an_image_without_signal_is_no_number() -> None:
    reference, other = noisy(30, 30, 30)
    reference[0] = 0
    found = image_noise(reference, other, IDS)
    assert isinstance(found, ImageNoise)
    assert found.far_worse == 0


@pytest.mark.parametrize(
    ("n", "usual", "level", "warned"),
    [
        (100, 25, 19.1, False),
        (100, 25, 18.9, True),
        (100, 40, 20.0, False),
        (100, 40, 19.9, True),
        (3, 40, 10.0, True),
        (2, 40, 10.0, False),
    ],
)
def test_a_class_is_far_noisier_six_decibels_under_the_median_and_below_twenty(
    n: int,
    usual: float,
    level: float,
    warned: bool,  # noqa: FBT001
) -> None:
    first = ClassAccuracy(label="a", n=100, reference=0.9, files={"ort": 0.9}, sqnr_db={"ort": usual})
    last = replace(first, label="d", n=n, sqnr_db={"ort": level})
    classes = [first, replace(first, label="b"), replace(first, label="c"), last]
    assert [place for place, _ in noisy_classes(classes, "ort")] == [3] * warned


def test_classes_without_noise_are_no_measure() -> None:
    same = NotMeasured(reason="no value differs")
    silent = ClassAccuracy(label="a", n=100, reference=0.9, files={"ort": 0.9}, sqnr_db={"ort": same})
    assert list(noisy_classes([silent], "ort")) == []
