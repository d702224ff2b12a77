"""Exact rewrites of a float graph as a table writes them down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Interval, Len

from rexnet_export.pipeline.core.records import Positive, Text

LARGEST_INDEX = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class ChannelScaling:
    """Channel c of `tensor` is divided by `factors[c]`, exactly compensated by its producers and consumers."""

    rule: Literal["scale"] = "scale"
    tensor: Text
    factors: Annotated[tuple[Positive, ...], Len(1)]


@dataclass(frozen=True, kw_only=True)
class ChannelGrouping:
    """The channels of the expanding convolution's output `tensor`, permuted by `order`, become len(`sizes`) tensors."""

    rule: Literal["group"] = "group"
    tensor: Text
    order: Annotated[tuple[Annotated[int, Interval(ge=0, le=LARGEST_INDEX)], ...], Len(1)]
    sizes: Annotated[tuple[Annotated[int, Interval(ge=1, le=LARGEST_INDEX)], ...], Len(1)]

    def __post_init__(self) -> None:
        """Every channel goes to one place of one tensor; ValueError where it does not."""
        if sorted(self.order) != list(range(len(self.order))):
            raise ValueError(f"order is not a permutation of 0 to {len(self.order) - 1}")
        if sum(self.sizes) != len(self.order):
            raise ValueError(f"sizes add up to {sum(self.sizes)}, not to the {len(self.order)} channels of order")


type Rewrite = ChannelScaling | ChannelGrouping
