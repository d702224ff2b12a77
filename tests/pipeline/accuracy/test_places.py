"""Places among images, as files have them: nothing else is believed."""

import numpy as np
import pytest
from numpy.typing import NDArray

from rexnet_export.pipeline.accuracy.places import checked_places


@pytest.mark.parametrize("places", [[0], [9], [0, 3, 9], range(10)])
def test_places_in_order_are_believed(places: list[int]) -> None:
    found = checked_places(np.array(places, np.uint32), 10)
    assert found.tolist() == list(places)
    assert found.dtype == np.int64


@pytest.mark.parametrize(
    ("places", "said"),
    [
        (np.array([0, 10]), "place 10 is none of 10 images"),
        (np.array([-1, 2]), "place -1 is none of 10 images"),
        (np.array([2**63], np.uint64), "place 9223372036854775808 is none of 10"),
        (np.array([3, 3]), "not each there once"),
        (np.array([3, 2]), "not in order"),
        (np.array([3, 2], np.uint32), "not in order"),
        (np.array([], int), r"int64 \[0\] are no places among 10 images"),
        (np.arange(11), r"int64 \[11\] are no places"),
        (np.arange(4).reshape(2, 2), r"int64 \[2, 2\] are no places"),
        (np.array(3), r"int64 \[\] are no places"),
        (np.array([0.0, 1.0]), "float64"),
        (np.array([False, True]), "bool"),
        (np.array(["0", "1"]), "U1"),
    ],
)
def test_others_are_not(places: NDArray[np.generic], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        checked_places(places, 10)
