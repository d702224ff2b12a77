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

import torch
from torch import Tensor

from rexnet_export.pipeline.checkpoint.stored_tensor import StoredTensor, held
from rexnet_export.pipeline.core.text import excerpt
from rexnet_export.pipeline.model.rexnet import DEPTH, FIRST_SQUEEZED_BLOCK, Architecture, Variant, architecture

type KeyFormat = Literal["clovaai", "timm"]

COUNTER = "num_batches_tracked"
NECK = "head.neck."
NORM_EPSILON = 1e-5

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
_OFFICIAL_GATE = re.compile(r"features\.\d+\.out\.5\.fc\.")
_OFFICIAL_BLOCK = re.compile(r"features\.\d+\.out\.")


def canonical(tensors: Mapping[str, StoredTensor]) -> tuple[KeyFormat, dict[str, StoredTensor]]:
    """The same tensors under our names, with a plain BatchNorm where one was folded into its convolution."""
    official = any(_OFFICIAL_BLOCK.match(name) for name in tensors)
    modules = _official_modules(tensors) if official else {}
    state = {_renamed(name, modules): tensor for name, tensor in tensors.items()}
    classifier = state.get("head.fc.weight")
    if classifier is not None and classifier.ndim == 4 and classifier.shape[2:] == (1, 1):
        state["head.fc.weight"] = classifier.seen_as(classifier.shape[:2], lambda weight: weight.flatten(1))
    return "clovaai" if official else "timm", _with_norms(state)


def is_trunk(name: str) -> bool:
    """Whether a tensor by our name belongs below the classifier."""
    return name.startswith(("stem.", "features.", NECK))


def _official_modules(names: Iterable[str]) -> dict[str, str]:
    # By position inside each block, not along the file: safetensors files are sorted by name.
    paths = tuple(names)
    lite = "output.1.running_mean" in paths and not any(_OFFICIAL_GATE.match(name) for name in paths)
    modules = {**_OUTSIDE_BLOCKS, **(_HEAD_LITE if lite else _HEAD_V1)}
    for block in range(DEPTH):
        path = f"features.{block + 3}.out."
        squeezed = any(name.startswith(f"{path}5.fc.") for name in paths)
        children = _BLOCK_FIRST if block == 0 else _BLOCK_SQUEEZED if squeezed else _BLOCK_PLAIN
        modules |= {path + position: f"features.{block}.{name}" for position, name in children.items()}
    return modules


def _with_norms(state: dict[str, StoredTensor]) -> dict[str, StoredTensor]:
    """A convolution with a bias and no BatchNorm behind it had one folded in: one that adds the bias stands for it."""
    filled = dict(state)
    for name, bias in state.items():
        stem, _, leaf = name.rpartition(".")
        gate, neck = stem.endswith(".se.fc1"), stem == f"{NECK}conv"
        norm = f"{stem.removesuffix('.fc1' if gate else '.conv')}.bn"
        if leaf != "bias" or bias.ndim != 1 or f"{norm}.weight" in state or not (gate or stem.endswith(".conv")):
            continue
        if not (gate or neck):
            del filled[name]
        zeros = held(torch.zeros(bias.shape))
        ones = held(torch.ones(bias.shape))
        filled |= {
            f"{norm}.weight": ones,
            f"{norm}.bias": zeros if gate or neck else bias,
            f"{norm}.running_mean": zeros,
            f"{norm}.running_var": held(torch.full(bias.shape, 1 - NORM_EPSILON)),
        }
    return filled


def _renamed(name: str, modules: Mapping[str, str]) -> str:
    module, _, leaf = name.rpartition(".")
    return f"{modules[module]}.{leaf}" if module in modules else name


def nearest_architecture(state: Mapping[str, StoredTensor], width: float | None = None) -> Architecture:
    """The ReXNet that shares most channel counts with `state`; published widths, and `width`, win ties."""
    observed = {name: tensor.shape[0] for name, tensor in state.items() if tensor.ndim}
    lite = any(name.startswith(NECK) for name in observed)
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


def difference(state: Mapping[str, StoredTensor], network: Mapping[str, Tensor]) -> Difference:
    """Compare by name and shape; a BatchNorm's batch counter may be absent, inference never reads it."""
    shared = [name for name in network if name in state]
    wrong = [name for name in shared if tuple(state[name].shape) != tuple(network[name].shape)]
    return Difference(
        matched=len(shared) - len(wrong),
        missing=tuple(name for name in network if name not in state and not name.endswith(COUNTER)),
        unexpected=tuple(name for name in state if name not in network),
        wrong_shape=tuple(f"{name} {list(state[name].shape)}, not {list(network[name].shape)}" for name in wrong),
    )
