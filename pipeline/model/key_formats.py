"""Whose names a state dict uses, and which ReXNet its shapes describe.

Three conventions are read: the authors' `Sequential` positions (`features.6.out.5.fc.0`), timm's names
(`features.3.se.fc1`), and ours, which are timm's plus `head.neck` for ReXNet-lite. Nothing is asked of the
user: names tell the convention, channel counts tell variant, width and classes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

from torch import Tensor

from rexnet_export.pipeline.core.text import excerpt
from rexnet_export.pipeline.model.rexnet import DEPTH, FIRST_SQUEEZED_BLOCK, Architecture, Variant, architecture

type KeyFormat = Literal["clovaai", "timm"]

# Averaged weights first: they are what a training run reports its accuracy with.
WRAPPERS = (
    "state_dict_ema",
    "model_ema",
    "ema_state_dict",
    "ema_model",
    "ema",
    "state_dict",
    "model_state_dict",
    "model",
    "module",
    "net",
    "network",
)
WRAPPER_DEPTH = 4
PREFIXES = ("module.", "_orig_mod.", "model.")
COUNTER = "num_batches_tracked"

PUBLISHED_WIDTHS: tuple[float, ...] = (1.0, 1.3, 1.5, 2.0, 3.0, 0.9, 1.1, 1.2, 1.4, 2.2)
HUNDREDTHS = range(10, 601)

# The authors' positions inside a block; activations and dropout hold no tensors and leave the gaps.
_BLOCK_FIRST = {"0": "conv_dw.conv", "1": "conv_dw.bn", "3": "conv_pwl.conv", "4": "conv_pwl.bn"}
_BLOCK_START = {"0": "conv_exp.conv", "1": "conv_exp.bn", "3": "conv_dw.conv", "4": "conv_dw.bn"}
_BLOCK_PLAIN = {**_BLOCK_START, "6": "conv_pwl.conv", "7": "conv_pwl.bn"}
_BLOCK_SQUEEZED = {
    **_BLOCK_START,
    "5.fc.0": "se.fc1",
    "5.fc.1": "se.bn",
    "5.fc.3": "se.fc2",
    "7": "conv_pwl.conv",
    "8": "conv_pwl.bn",
}
_OUTSIDE_BLOCKS = {
    "features.0": "stem.conv",
    "features.1": "stem.bn",
    "features.19": "features.16.conv",
    "features.20": "features.16.bn",
}
_HEAD_V1 = {"output.1": "head.fc"}
_HEAD_LITE = {"output.0": "head.neck.conv", "output.1": "head.neck.bn", "output.4": "head.fc"}
_OFFICIAL_BLOCK = re.compile(r"features\.\d+\.out\.")


def unwrap(content: object, depth: int = WRAPPER_DEPTH) -> tuple[tuple[str, ...], dict[str, Tensor]]:
    """The named tensors inside a checkpoint's dictionaries, averaged weights (EMA) first, and the way to them."""
    if not isinstance(content, Mapping) or depth == 0:
        return (), {}
    for wrapper in WRAPPERS:
        way, tensors = unwrap(content.get(wrapper), depth - 1)
        if tensors:
            return (wrapper, *way), tensors
    return (), _without_prefix(
        {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}
    )


def _without_prefix(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    tensors.pop("n_averaged", None)  # torch's AveragedModel counts its updates beside the weights
    while tensors:
        prefix = next((p for p in PREFIXES if all(name.startswith(p) for name in tensors)), None)
        if prefix is None:
            break
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def canonical(tensors: Mapping[str, Tensor]) -> tuple[KeyFormat, dict[str, Tensor]]:
    """The same tensors under our names; a 1x1 convolution classifier [classes, C, 1, 1] becomes [classes, C]."""
    official = any(_OFFICIAL_BLOCK.match(name) for name in tensors)
    modules = _official_modules(tensors) if official else {}
    state = {_renamed(name, modules): tensor for name, tensor in tensors.items()}
    classifier = state.get("head.fc.weight")
    if classifier is not None and classifier.ndim == 4 and classifier.shape[2:] == (1, 1):
        state["head.fc.weight"] = classifier.flatten(1)
    return "clovaai" if official else "timm", state


def _official_modules(names: Iterable[str]) -> dict[str, str]:
    # By position inside each block, not along the file: safetensors files are sorted by name.
    paths = tuple(names)
    modules = {**_OUTSIDE_BLOCKS, **(_HEAD_LITE if "output.0.weight" in paths else _HEAD_V1)}
    for block in range(DEPTH):
        path = f"features.{block + 3}.out."
        squeezed = any(name.startswith(f"{path}5.fc.") for name in paths)
        children = _BLOCK_FIRST if block == 0 else _BLOCK_SQUEEZED if squeezed else _BLOCK_PLAIN
        modules |= {path + position: f"features.{block}.{name}" for position, name in children.items()}
    return modules


def _renamed(name: str, modules: Mapping[str, str]) -> str:
    module, _, leaf = name.rpartition(".")
    return f"{modules[module]}.{leaf}" if module in modules else name


def nearest_architecture(state: Mapping[str, Tensor], width: float | None = None) -> Architecture:
    """The ReXNet that shares most channel counts with `state`; published widths, and `width`, win ties."""
    observed = {name: tensor.shape[0] for name, tensor in state.items() if tensor.ndim}
    lite = any(name.startswith("head.neck.") for name in observed)
    plain = f"features.{FIRST_SQUEEZED_BLOCK}.conv_dw.conv.weight" in observed
    use_se = any(".se." in name for name in observed) or not plain
    classifier = state.get("head.fc.weight")
    classes = max(1, classifier.shape[0]) if classifier is not None and classifier.ndim == 2 else 1000
    hinted = () if width is None else tuple(_of_width(width, lite=lite, use_se=use_se))
    known = (*hinted, *_candidates(lite=lite, use_se=use_se))
    return replace(max(known, key=lambda spec: _agreement(spec, observed)), classes=classes)


def _agreement(spec: Architecture, observed: Mapping[str, int]) -> int:
    return sum(observed.get(name) == channels for name, channels in _output_channels(spec))


def _output_channels(spec: Architecture) -> Iterator[tuple[str, int]]:
    yield "stem.conv.weight", spec.stem
    yield f"features.{DEPTH}.conv.weight", spec.penultimate
    for index, block in enumerate(spec.blocks):
        yield f"features.{index}.conv_dw.conv.weight", block.expanded
        yield f"features.{index}.conv_pwl.conv.weight", block.outputs
        if block.squeeze:
            yield f"features.{index}.se.fc1.weight", block.squeeze


@cache
def _candidates(*, lite: bool, use_se: bool) -> tuple[Architecture, ...]:
    # Rounded channels make some neighbouring widths the same network (lite 0.74 and 0.75): the rounder name wins.
    others = sorted(HUNDREDTHS, key=lambda hundredths: (hundredths % 10 > 0) + (hundredths % 5 > 0))
    widths = (*PUBLISHED_WIDTHS, *(hundredths / 100 for hundredths in others))
    return tuple(spec for width in widths for spec in _of_width(width, lite=lite, use_se=use_se))


def _of_width(width: float, *, lite: bool, use_se: bool) -> Iterator[Architecture]:
    variants: tuple[Variant, ...] = ("lite",) if lite else ("v1", "r")
    for variant in variants:
        spec = architecture(variant, width, use_se=use_se)
        yield spec
        if variant == "v1" and int(1280 * width) != spec.penultimate:
            # The authors truncate here where timm rounds; it shows at widths nobody published, such as 1.06.
            yield replace(spec, penultimate=int(1280 * width))


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How a state dict's names and shapes differ from one network's."""

    matched: int
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    wrong_shape: tuple[str, ...]

    @property
    def exact(self) -> bool:
        """Whether every tensor has its place and every place its tensor."""
        return not (self.missing or self.unexpected or self.wrong_shape)

    def __str__(self) -> str:
        parts = [
            f"{len(names)} {kind}{_some(names)}"
            for kind, names in (
                ("missing", self.missing),
                ("unexpected", self.unexpected),
                ("of wrong shape", self.wrong_shape),
            )
        ]
        return f"{self.matched} tensors match, {', '.join(parts)}"


def _some(names: tuple[str, ...], limit: int = 3) -> str:
    if not names:
        return ""
    return f" ({', '.join(excerpt(name) for name in names[:limit])}{', ...' if len(names) > limit else ''})"


def difference(state: Mapping[str, Tensor], network: Mapping[str, Tensor]) -> Difference:
    """Compare by name and shape; a BatchNorm's batch counter may be absent, inference never reads it."""
    shared = [name for name in network if name in state]
    wrong = [name for name in shared if state[name].shape != network[name].shape]
    return Difference(
        matched=len(shared) - len(wrong),
        missing=tuple(name for name in network if name not in state and not name.endswith(COUNTER)),
        unexpected=tuple(name for name in state if name not in network),
        wrong_shape=tuple(f"{name} {list(state[name].shape)}, not {list(network[name].shape)}" for name in wrong),
    )
