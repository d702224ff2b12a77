"""What the files of a sweep are beside each other: the best float network, corrected claims, Pareto fronts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rexnet_export.apps.export.sweep.sweep_json import AgainstBest
from rexnet_export.pipeline.accuracy.paired_statistics import holm, margin_p, upper_limit

type Right = NDArray[np.bool_]

SIGNIFICANT = 0.05  # what p is below where a claim is shown


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Images that only the reference has right (`worse`), only the candidate (`better`), and all."""

    worse: int
    better: int
    images: int


def counts(right: Right, reference: Right) -> Counts:
    """The counts of a candidate beside a reference on the same images [n]."""
    worse, better = int((reference & ~right).sum()), int((~reference & right).sum())
    return Counts(worse=worse, better=better, images=len(right))


def corrected_p(candidates: Sequence[Counts], margin: float) -> list[float]:
    """For each, p of "it loses `margin` (fraction) or more", corrected by Holm for there being several.

    So the chance that any of those below `SIGNIFICANT` does lose it is at most that, whichever is then picked.
    """
    return holm([margin_p(each.worse, each.better, each.images, margin) for each in candidates])


def against_best(candidates: Mapping[Hashable, tuple[str, Counts]], margin: float) -> dict[Hashable, AgainstBest]:
    """Every candidate, given with its family, beside the best float network; each family is corrected for itself."""
    families: dict[str, list[Hashable]] = defaultdict(list)
    for key, (family, _) in candidates.items():
        families[family].append(key)
    p_values = {
        key: p
        for keys in families.values()
        for key, p in zip(keys, corrected_p([candidates[key][1] for key in keys], margin), strict=True)
    }
    return {
        key: AgainstBest(
            worse=found.worse,
            better=found.better,
            drop=(found.worse - found.better) / found.images,
            drop_upper_95=upper_limit(found.worse, found.better, found.images),
            p_holm=p_values[key],
        )
        for key, (_, found) in candidates.items()
    }


def front(points: Iterable[tuple[Hashable, float, float]]) -> set[Hashable]:
    """The keys of those (key, gain, cost) that no other beats: it would be as good in both, and better in one."""
    known = list(points)
    return {
        key
        for key, gain, cost in known
        if not any(g >= gain and c <= cost and (g > gain or c < cost) for _, g, c in known)
    }
