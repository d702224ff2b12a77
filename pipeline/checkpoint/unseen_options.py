"""What a network was built with that none of its tensors shows, where its file says so.

Another activation, pooling, stride or epsilon leaves every name and shape as it is and changes every logit. Only what
timm's own ReXNets have is exported, so what says otherwise is refused. Names are those of timm's networks and scripts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rexnet_export.pipeline.core.errors import CheckpointError
from rexnet_export.pipeline.core.text import excerpt

AVERAGE_POOLING = frozenset({"avg", "fast", "fastavg"})
EPSILON = 1e-5  # torch's and timm's, of BatchNorm
NESTED = ("model_kwargs", "model_args")  # where timm's scripts and its hub keep what a network is built with


def _named(known: frozenset[str]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and value.lower() in known


def _number(known: float) -> Callable[[object], bool]:
    return lambda value: isinstance(value, int | float) and not isinstance(value, bool) and value == known


# By option: what it sets, whether a value is that of timm's ReXNets, and what they have.
_OPTIONS: Mapping[str, tuple[str, Callable[[object], bool], str]] = {
    "gp": ("the pooling (timm's --gp)", _named(AVERAGE_POOLING), "avg"),
    "global_pool": ("the pooling (timm's --gp)", _named(AVERAGE_POOLING), "avg"),
    "act_layer": ("the activation", _named(frozenset({"swish", "silu"})), "swish"),
    "dw_act_layer": ("the activation behind depthwise layers", _named(frozenset({"relu6"})), "relu6"),
    "output_stride": ("the stride of the last feature map", _number(32), "32"),
    "bn_eps": ("the epsilon of every BatchNorm", _number(EPSILON), f"{EPSILON:g}"),
}


def check_unseen(options: Mapping[str, object], where: str) -> None:
    """Refuse a network that its own options say computes other than timm's; what is unset says nothing."""
    nested = [inside for name in NESTED if isinstance(inside := options.get(name), Mapping)]
    for given in (options, *nested):
        for name, (meaning, usual, expected) in _OPTIONS.items():
            value = given.get(name)
            if value not in (None, "") and not usual(value):
                raise CheckpointError(
                    f"{where} says {name} {excerpt(repr(value))}, {meaning}, where only {expected} is exported: train "
                    "the network with that"
                )
