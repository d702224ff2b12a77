"""What a number of images decides, row by row, and which questions have no answer."""

from __future__ import annotations

import pytest

from rexnet_export.apps.gate.accuracy.plan import plan
from rexnet_export.pipeline.core.errors import UsageError


def test_half_the_margin_lost_takes_more_images_than_nothing_lost() -> None:
    """A drop of 0.25 points at a margin of 0.5: Wald's n of a one-sided test at 5 %, within the exact test's few."""
    found = plan(10_000, discordance=0.01, margin=0.005)
    (row,) = (row for row in found.rows if row.power == 0.8)
    assert row.to_prove_half == pytest.approx((1.6449 + 0.8416) ** 2 * 0.01 / 0.0025**2, rel=0.05)
    assert row.to_prove_half > 3 * row.to_prove


def test_a_drop_of_half_the_margin_is_discordance_at_least() -> None:
    (row, *_) = plan(10_000, discordance=0.001, margin=0.01).rows
    assert row.to_prove_half == pytest.approx((1.6449 + 0.8416) ** 2 * (0.005 - 0.005**2) / 0.005**2, rel=1e-3)


def test_where_hardly_an_image_differs_the_exact_test_says_how_many_are_needed() -> None:
    """log 0.05 / log 0.99 = 298.1; Wald's n would be six."""
    assert [row.to_prove for row in plan(10, discordance=0.0001, margin=0.01).rows] == [299] * 3


def test_what_is_missing_is_what_a_harmless_candidate_needs() -> None:
    few, enough = (plan(images, discordance=0.01, margin=0.005) for images in (100, 1_000_000))
    assert few.missing == few.rows[0].to_prove - 100
    assert enough.missing == 0


def test_a_drop_beyond_the_discordance_cannot_be() -> None:
    assert all(row.to_detect is None for row in plan(1000, discordance=0.004, margin=0.005).rows)
    assert all(row.to_detect for row in plan(1000, discordance=0.005, margin=0.005).rows)
    assert all(row.detectable_drop is None for row in plan(1000, discordance=0.0, margin=0.005).rows)
    assert all(row.detectable_drop for row in plan(1000, discordance=0.02, margin=0.005).rows)


def test_powers_are_those_people_plan_with() -> None:
    assert [row.power for row in plan(1000, discordance=0.01, margin=0.005).rows] == [0.8, 0.9, 0.95]


@pytest.mark.parametrize("images", [1, 1_000_000_000])
def test_the_ends_of_what_can_be_asked_are_answered(images: int) -> None:
    assert plan(images, discordance=1.0, margin=0.5).images == images


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ((0, 0.01, 0.005), "--images 0: must be 1 to "),
        ((1_000_000_001, 0.01, 0.005), "--images 1000000001: must be 1 to "),
        ((10, -0.01, 0.005), "--discordance -1: must be percent from 0 to 100"),
        ((10, 1.01, 0.005), "--discordance 101: must be percent from 0 to 100"),
        ((10, 0.01, 1.0), "margin 100: must be points between"),
        ((10, 0.01, 1.5), "margin 150: must be points between"),
    ],
)
def test_what_cannot_be_is_refused(asked: tuple[int, float, float], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        plan(*asked)
