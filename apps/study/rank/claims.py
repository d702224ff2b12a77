"""What the paper claims of its rank study, judged on measured points."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from rexnet_export.apps.study.rank.random_layers import Point

SMOOTH = ("elu", "softplus", "hard-swish", "silu")
CLIPPED = ("relu", "relu6")
SINGLE = ("conv1x1", "conv3x3")
BOTTLENECKS = ("bottleneck-conv", "bottleneck-depthwise")
PLATEAU = 0.98
SIGNIFICANT = 2.0  # standard errors of a difference


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One statement, at how many of the compared points it holds, and where it does not."""

    statement: str
    holds: int
    compared: int
    against: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """`not judged` where the study lacks the points."""
        if not self.compared:
            return "not judged"
        if self.holds == self.compared:
            return "reproduced"
        if self.holds >= 0.9 * self.compared:
            return "mostly reproduced"
        return "partly reproduced" if self.holds >= 0.5 * self.compared else "not reproduced"


type Cells = dict[tuple[str, str, float], Point]


def claims(points: Sequence[Point]) -> tuple[Claim, ...]:
    """Every claim of section 3.2 that points can decide."""
    cells = {(p.kind, p.nonlinearity, p.ratio): p for p in points}
    return (
        _order(cells, SINGLE, "single layers"),
        _order(cells, BOTTLENECKS, "inverted bottlenecks"),
        _plateau(cells),
        _compare(
            "Nonlinearities lift the rank above d_in (ratios 0.1 to 0.5)",
            cells,
            [(k, f, r, k, "linear", r) for k, f, r in cells if f != "linear" and r <= 0.5],
            _above,
        ),
        _compare(
            "Expansion costs more rank in inverted bottlenecks than in a single layer (ratios up to 0.3)",
            cells,
            [(k, f, r, "conv1x1", f, r) for k, f, r in cells if k in BOTTLENECKS and f != "linear" and r <= 0.3],
            _below,
        ),
        _compare(
            "... and more with a depthwise than with a full 3x3 convolution (ratios up to 0.5)",
            cells,
            [
                (k, f, r, "bottleneck-conv", f, r)
                for k, f, r in cells
                if k == "bottleneck-depthwise" and f != "linear" and r <= 0.5
            ],
            _below,
        ),
    )


def _order(cells: Cells, kinds: Sequence[str], where: str) -> Claim:
    pairs = [
        (kind, smooth, ratio, kind, clipped, ratio)
        for kind in kinds
        for smooth in SMOOTH
        for clipped in CLIPPED
        for ratio in sorted({r for _, _, r in cells if r <= 0.5})
    ]
    statement = f"ELU, SoftPlus, Hard-swish and SiLU rank above ReLU and ReLU6 at ratios 0.1 to 0.5 in {where}"
    return _compare(statement, cells, pairs, _above)


def _plateau(cells: Cells) -> Claim:
    clipped = [p for (k, f, r), p in cells.items() if k in SINGLE and f in CLIPPED and r >= 0.8]
    smooth = [p for (k, f, r), p in cells.items() if k in SINGLE and f in SMOOTH and r >= 0.8]
    wrong = [p for p in clipped if p.rank_ratio >= PLATEAU] + [p for p in smooth if p.rank_ratio < PLATEAU]
    return Claim(
        statement=f"ReLU and ReLU6 stay below {PLATEAU} in single layers even at ratios 0.8 to 1.0, smooth ones do not",
        holds=len(clipped) + len(smooth) - len(wrong),
        compared=len(clipped) + len(smooth),
        against=tuple(f"{p.kind} {p.nonlinearity} {p.rank_ratio:.3f} at {p.ratio:g}" for p in wrong),
    )


def _above(left: Point, right: Point) -> bool:
    """Whether the difference, batch by batch of the same sizes, is more than chance."""
    differences = [a - b for a, b in zip(left.batches, right.batches, strict=True)]
    error = stdev(differences) / len(differences) ** 0.5 if len(differences) > 1 else 0.0
    return fmean(differences) > SIGNIFICANT * error


def _below(left: Point, right: Point) -> bool:
    return _above(right, left)


def _compare(
    statement: str,
    cells: Cells,
    pairs: Sequence[tuple[str, str, float, str, str, float]],
    holds: Callable[[Point, Point], bool],
) -> Claim:
    present = [(cells[p[:3]], cells[p[3:]]) for p in pairs if p[:3] in cells and p[3:] in cells]
    wrong = [(left, right) for left, right in present if not holds(left, right)]
    against = tuple(
        f"{left.kind} {left.nonlinearity} {left.rank_ratio:.3f} against "
        f"{right.nonlinearity if left.nonlinearity != right.nonlinearity else right.kind} {right.rank_ratio:.3f} "
        f"at {left.ratio:g}"
        for left, right in wrong
    )
    return Claim(statement=statement, holds=len(present) - len(wrong), compared=len(present), against=against)


def distance(points: Sequence[Point]) -> float | None:
    """Root of the mean squared difference from the published values; None where none was published."""
    differences = [p.rank_ratio - p.published for p in points if p.published is not None]
    return (sum(d * d for d in differences) / len(differences)) ** 0.5 if differences else None
