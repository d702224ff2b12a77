"""Top-1 class by class, and which classes lose far more than the median one."""

import numpy as np
import pytest

from rexnet_export.pipeline.accuracy.class_accuracy import ClassAccuracy, FewerImages, class_accuracies, far_worse


def one_hot(classes: list[int]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.eye(3, dtype=np.float32)[classes]


def test_each_class_counts_its_own_images() -> None:
    labels = np.array([0, 0, 0, 2])
    reference, files = one_hot([0, 0, 1, 2]), {"ort": one_hot([0, 1, 1, 0])}
    found = class_accuracies(reference, files, {"ort": reference}, labels, ("cat", "dog", "owl"))
    assert [(each.label, each.n) for each in found] == [("cat", 3), ("owl", 1)]
    assert [each.reference for each in found] == [pytest.approx(2 / 3), 1.0]
    assert [each.files["ort"] for each in found] == [pytest.approx(1 / 3), 0.0]
    assert [each.sqnr_db["ort"] for each in found] == [1.76, -3.01]


def test_a_file_is_beside_the_reference_on_the_images_that_it_was_asked_about() -> None:
    """Images 0, 2 and 3 of five; none of them is an owl."""
    labels, reference = np.array([0, 0, 0, 1, 2]), one_hot([0, 0, 1, 1, 2])
    places = np.array([0, 2, 3])
    files = {"ort": one_hot([0, 1, 2]), "tflite": reference}
    beside = {"ort": reference[places], "tflite": reference}
    cat, dog, owl = class_accuracies(reference, files, beside, labels, ("cat", "dog", "owl"), {"ort": places})
    assert (cat.n, cat.reference, cat.files["ort"]) == (3, pytest.approx(2 / 3), 0.5)
    assert (cat.asked("ort").n, cat.asked("ort").reference, cat.drop("ort")) == (2, 0.5, 0.0)
    assert (cat.asked("tflite").n, cat.drop("tflite")) == (3, 0.0)
    assert (dog.files["ort"], dog.drop("ort")) == (0.0, 1.0)
    assert dog.sqnr_db["ort"] == -3.01
    assert list(owl.files) == list(owl.sqnr_db) == ["tflite"]
    assert owl.drop("ort") == 0.0
    assert list(far_worse([cat, dog, owl], ["ort"])) == []


def test_a_class_counts_as_many_images_as_a_file_was_asked_about() -> None:
    few = FewerImages(n=20, reference=0.9)
    usual = {"n": 1_000, "reference": 0.9, "sqnr_db": {"ort": 30.0}}
    classes = [ClassAccuracy(label=name, files={"ort": 0.9}, **usual) for name in "abc"]
    for fewer, warned in (({}, True), ({"ort": few}, False)):
        last = ClassAccuracy(label="d", files={"ort": 0.8}, fewer=fewer, **usual)
        assert [each.label for _, each in far_worse([*classes, last], ["ort"])] == ["d"] * warned


@pytest.mark.parametrize(
    ("n", "right", "warned"),
    [(1_000, 0.90, False), (1_000, 0.88, False), (1_000, 0.869, True), (50, 0.86, False), (100, 0.86, True)],
)
def test_a_class_is_far_worse_beyond_two_points_and_three_images(n: int, right: float, warned: bool) -> None:  # noqa: FBT001
    usual = [
        ClassAccuracy(label=name, n=n, reference=0.9, files={"ort": 0.895}, sqnr_db={"ort": 30.0}) for name in "abc"
    ]
    classes = [*usual, ClassAccuracy(label="d", n=n, reference=0.9, files={"ort": right}, sqnr_db={"ort": 30.0})]
    assert [(name, each.label) for name, each in far_worse(classes, ["ort"])] == [("ort", "d")] * warned


def test_what_all_classes_lose_is_no_warning() -> None:
    classes = [
        ClassAccuracy(label=name, n=1_000, reference=0.9, files={"ort": 0.5}, sqnr_db={"ort": 30.0}) for name in "abc"
    ]
    assert list(far_worse(classes, ["ort"])) == []
