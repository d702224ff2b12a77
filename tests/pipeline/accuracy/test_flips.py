from __future__ import annotations

import numpy as np
import pytest

from rexnet_export.pipeline.accuracy.flips import flips

MOST_LISTED = 48

IDS = [f"{number}.png" for number in range(4)]
REFERENCE = np.array([[2, 0, 0], [0, 5, 0], [0, 0, 2], [3, 0, 0]], np.float32)


def changed(*rows: int) -> np.ndarray:
    """The reference, but for rows that choose the next class, a little less surely."""
    found = REFERENCE.copy()
    for row in rows:
        found[row] = np.roll(found[row], 1) / 2
    return found


def test_those_that_flip_in_most_files_come_first_then_the_surest() -> None:
    found = flips(REFERENCE, {"a": changed(0, 1, 3), "b": changed(0)}, IDS, np.array([0, 1, 2, 1]), ["x", "y", "z"])
    assert found.images == 3
    assert [image.id for image in found.listed] == ["0.png", "1.png", "3.png"]
    first, second, third = found.listed
    assert (first.label, first.reference.name) == ("x", "x")
    assert {name: choice.name for name, choice in first.others.items()} == {"a": "y", "b": "y"}
    assert list(second.others) == ["a"]
    assert third.label == "y"


def test_probabilities_are_softmax() -> None:
    (image,) = flips(REFERENCE, {"a": changed(1)}, IDS, None, ["x", "y", "z"]).listed
    assert image.label is None
    assert image.reference.probability == pytest.approx(np.exp(5) / (np.exp(5) + 2), abs=1e-4)
    assert image.others["a"].probability == pytest.approx(np.exp(2.5) / (np.exp(2.5) + 2), abs=1e-4)


def test_all_are_counted_but_not_all_listed() -> None:
    many = MOST_LISTED + 9
    reference = np.tile(np.float32([1, 0]), (many, 1))
    found = flips(reference, {"a": reference[:, ::-1]}, [str(n) for n in range(many)], None, ["x", "y"])
    assert (found.images, len(found.listed)) == (many, MOST_LISTED)


@pytest.mark.parametrize("artifacts", [{}, {"a": REFERENCE}])
def test_nothing_flips(artifacts: dict[str, np.ndarray]) -> None:
    assert flips(REFERENCE, artifacts, IDS, None, ["x", "y", "z"]).images == 0


def test_what_was_not_asked_has_not_flipped() -> None:
    """A file was asked about images 1 and 3, and chooses otherwise on the second of them."""
    places = {"a": np.array([1, 3])}
    found = flips(REFERENCE, {"a": changed(3)[[1, 3]], "b": REFERENCE}, IDS, None, ["x", "y", "z"], places)
    assert found.images == 1
    assert [(image.id, list(image.others)) for image in found.listed] == [("3.png", ["a"])]
