"""What a training run says in the end."""

import pytest

from rexnet_export.apps.train.run_training import no_better_than_chance


@pytest.mark.parametrize(
    ("top1", "images", "classes", "chance"),
    [
        (0.10, 10_000, 10, 0.1),
        (0.106, 10_000, 10, 0.1),  # two standard errors are 0.6 points
        (0.107, 10_000, 10, None),
        (0.02, 10_000, 10, 0.1),
        (0.75, 16, 2, 0.5),
        (0.76, 16, 2, None),
        (1.0, 16, 1, 1.0),
    ],
)
def test_what_guessing_may_give_is_no_result(top1: float, images: int, classes: int, chance: float | None) -> None:
    assert no_better_than_chance(top1, images, classes) == chance
