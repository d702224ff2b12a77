"""How much the rank study's findings hang on what the paper leaves open: one choice changed at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rexnet_export.apps.study.rank.claims import Claim, claims, distance
from rexnet_export.apps.study.rank.random_layers import Protocol, study
from rexnet_export.pipeline.core.progress import Progress

RATIOS = (0.1, 0.2, 0.3, 0.5, 1.0)


@dataclass(frozen=True, kw_only=True)
class Variation:
    """The claims, and the distance from the published values, under a protocol that differs in one choice."""

    choice: str
    claims: tuple[Claim, ...]
    distance: float | None


def variations(protocol: Protocol) -> dict[str, Protocol]:
    """The protocol at five ratios, and with each open choice changed."""
    base = replace(protocol, ratios=RATIOS)
    low, high = base.widths
    changed = {
        "as above": base,
        "another seed": replace(base, seed=base.seed + 1),
        "f then BatchNorm": replace(base, order="f-bn"),
        "BatchNorm then f": replace(base, order="bn-f"),
        "f alone": replace(base, order="f"),
        "inputs uniform in [0, 1]": replace(base, inputs="uniform"),
        "inputs normal": replace(base, inputs="normal"),
        "inputs uniform in [-1, 1]": replace(base, inputs="signed-uniform"),
        "tolerance 1e-4": replace(base, tolerance=1e-4),
        "tolerance 1e-3": replace(base, tolerance=1e-3),
        "tolerance 1e-2": replace(base, tolerance=1e-2),
        "expansion 6": replace(base, expansion=(6.0, 6.0)),
        "expansion 1 to 6": replace(base, expansion=(1.0, 6.0)),
        "half the widths": replace(base, widths=(max(2, low // 2), max(2, high // 2))),
        "N = 1.5 d_out": replace(base, columns=1.5),
        "maps of 4 x 4 pixels": replace(base, pixels=4),
    }
    return {name: choice for name, choice in changed.items() if name == "as above" or choice != base}


def sensitivity(protocol: Protocol, networks: int, progress: Progress) -> tuple[Variation, ...]:
    """Judge every variation on `networks` networks per point."""
    found = []
    for name, choice in variations(replace(protocol, networks=networks)).items():
        points = study(choice, progress, title=name)
        found.append(Variation(choice=name, claims=claims(points), distance=distance(points)))
    return tuple(found)
