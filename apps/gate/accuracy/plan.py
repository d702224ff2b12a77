"""What a number of images can decide, and how many are missing for a margin."""

from __future__ import annotations

from dataclasses import dataclass

from rexnet_export.apps.gate.accuracy.sample_size import (
    images_to_detect,
    images_to_prove,
    images_without_discordance,
    provable_margin,
    require_margin,
    smallest_detectable,
)
from rexnet_export.pipeline.core.errors import UsageError

POWERS = (0.8, 0.9, 0.95)
MOST_IMAGES = 10**9


@dataclass(frozen=True, kw_only=True)
class PlanRow:
    """Images needed with a probability of `power`: to find a drop of the margin, to show that the drop is below the
    margin where there is none, and where it is half the margin; and what `images` suffice for (fractions)."""

    power: float
    to_detect: int | None
    to_prove: int
    to_prove_half: int
    detectable_drop: float | None
    provable_margin: float


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What `images` at this discordance decide; `missing` is how many more a candidate without any drop needs to pass
    in 80 of 100 runs."""

    images: int
    discordance: float
    margin: float
    rows: tuple[PlanRow, ...]
    missing: int


def plan(images: int, discordance: float, margin: float) -> Plan:
    """Answer for every usual power; discordance and margin as fractions."""
    if not 1 <= images <= MOST_IMAGES:
        raise UsageError(f"--images {images}: must be 1 to {MOST_IMAGES:,}")
    if not 0 <= discordance <= 1:
        raise UsageError(f"--discordance {100 * discordance:g}: must be percent from 0 to 100")
    require_margin(margin)
    rows = tuple(_row(images, discordance, margin, power) for power in POWERS)
    return Plan(
        images=images, discordance=discordance, margin=margin, rows=rows, missing=max(0, rows[0].to_prove - images)
    )


def _row(images: int, discordance: float, margin: float, power: float) -> PlanRow:
    least = images_without_discordance(margin)
    possible = discordance >= margin  # a drop cannot exceed the discordance
    # Where the drop is half the margin, at least that many images are discordant.
    half = max(discordance, margin / 2)
    return PlanRow(
        power=power,
        to_detect=images_to_detect(discordance, margin, power) if possible else None,
        to_prove=max(least, images_to_prove(discordance, margin, power=power)),
        to_prove_half=images_to_prove(half, margin, margin / 2, power),
        detectable_drop=smallest_detectable(discordance, images, power) if discordance else None,
        provable_margin=provable_margin(discordance, images, power),
    )
