"""Exact rewrites of a float graph as a table writes them down."""

from __future__ import annotations

from dataclasses import dataclass

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.strict_json import a_number, a_text, an_array, an_integer, an_object

LARGEST_INDEX = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class ChannelScaling:
    """Channel c of `tensor` is divided by `factors[c]`, exactly compensated by its producers and consumers."""

    tensor: str
    factors: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class ChannelGrouping:
    """The channels of the expanding convolution's output `tensor`, permuted by `order`, become len(`sizes`) tensors."""

    tensor: str
    order: tuple[int, ...]
    sizes: tuple[int, ...]


type Rewrite = ChannelScaling | ChannelGrouping


def rewrite_fields(rewrite: Rewrite) -> dict[str, object]:
    """The JSON object of a rewrite."""
    match rewrite:
        case ChannelScaling(tensor=tensor, factors=factors):
            return {"rule": "scale", "tensor": tensor, "factors": factors}
        case ChannelGrouping(tensor=tensor, order=order, sizes=sizes):
            return {"rule": "group", "tensor": tensor, "order": order, "sizes": sizes}


def parse_rewrite(value: object, where: str) -> Rewrite:
    """Read a rewrite's JSON object; anything unexpected is a `ConversionError` that says where."""
    match value.get("rule") if isinstance(value, dict) else None:
        case "scale":
            return _scaling(an_object(value, where, {"rule", "tensor", "factors"}), where)
        case "group":
            return _grouping(an_object(value, where, {"rule", "tensor", "order", "sizes"}), where)
        case rule:
            raise ConversionError(f"{where} has rule {rule!r}; known are scale, group")


def _scaling(found: dict[str, object], where: str) -> ChannelScaling:
    factors = tuple(a_number(item, f"{where}.factors") for item in an_array(found["factors"], f"{where}.factors"))
    if min(factors) <= 0.0:
        raise ConversionError(f"{where}.factors holds {min(factors)}; factors are above zero")
    return ChannelScaling(tensor=a_text(found["tensor"], f"{where}.tensor"), factors=factors)


def _grouping(found: dict[str, object], where: str) -> ChannelGrouping:
    order = _integers(found["order"], f"{where}.order", 0)
    sizes = _integers(found["sizes"], f"{where}.sizes", 1)
    if sorted(order) != list(range(len(order))):
        raise ConversionError(f"{where}.order is not a permutation of 0 to {len(order) - 1}")
    if sum(sizes) != len(order):
        raise ConversionError(f"{where}.sizes add up to {sum(sizes)}, not to the {len(order)} channels of order")
    return ChannelGrouping(tensor=a_text(found["tensor"], f"{where}.tensor"), order=order, sizes=sizes)


def _integers(value: object, where: str, low: int) -> tuple[int, ...]:
    return tuple(an_integer(item, where, low, LARGEST_INDEX) for item in an_array(value, where))
