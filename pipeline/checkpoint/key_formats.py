"""Whose names a state dict uses, and which ReXNet its shapes describe.

Three conventions are read: the authors' `Sequential` positions (`features.6.out.5.fc.0`), timm's names
(`features.3.se.fc1`), and ours, which are timm's plus `head.neck` for ReXNet-lite. Nothing is asked of the
user: names tell the convention, channel counts tell variant, width and classes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import torch
from torch import Tensor

from rexnet_export.pipeline.core.text import excerpt
from rexnet_export.pipeline.model.architecture import PUBLISHED, Architecture, Stages, Variant, architecture, stages_at
from rexnet_export.pipeline.pickles.stored_tensor import StoredTensor, held

type KeyFormat = Literal["clovaai", "timm"]

COUNTER = "num_batches_tracked"
NECK = "head.neck."
NORM_EPSILON = 1e-5
MOST_NUMBERS = 2**29  # of a network with channels of its own; one of width 6 has a third of that

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
_STEM = {
    "features.0": "stem.conv",
    "features.1": "stem.bn",
}
_HEAD_V1 = {"output.1": "head.fc"}
_HEAD_LITE = {"output.0": "head.neck.conv", "output.1": "head.neck.bn", "output.4": "head.fc"}
_OFFICIAL_GATE = re.compile(r"features\.\d+\.out\.5\.fc\.")
_OFFICIAL_BLOCK = re.compile(r"features\.(\d{1,3})\.out\.")
_BLOCK = re.compile(r"features\.(\d{1,3})\.conv_dw\.")
_FIRST_POSITION = 3  # of the authors' blocks, behind the stem's convolution, BatchNorm and activation

# Whatever the multiplier: a network's number of blocks tells how many each stage has.
_BY_BLOCKS = {found.total: found for found in (stages_at(thirtieths / 30) for thirtieths in range(1, 121))}


def canonical(tensors: Mapping[str, StoredTensor]) -> tuple[KeyFormat, dict[str, StoredTensor]]:
    """The same tensors under our names, with a plain BatchNorm where one was folded into its convolution."""
    official = any(_OFFICIAL_BLOCK.match(name) for name in tensors)
    modules = _official_modules(tensors) if official else {}
    state = {_renamed(name, modules): tensor for name, tensor in tensors.items()}
    classifier = state.get("head.fc.weight")
    if classifier is not None and classifier.ndim == 4 and classifier.shape[2:] == (1, 1):
        state["head.fc.weight"] = classifier.seen_as(classifier.shape[:2], lambda weight: weight.flatten(1))
    return "clovaai" if official else "timm", _with_norms(state)


def stages_of(blocks: int) -> Stages:
    """The stages of a network of so many blocks; the published ones where no depth multiplier gives that number."""
    return _BY_BLOCKS.get(blocks, PUBLISHED)


def is_trunk(name: str) -> bool:
    """Whether a tensor by our name belongs below the classifier."""
    return name.startswith(("stem.", "features.", NECK))


def _official_modules(names: Iterable[str]) -> dict[str, str]:
    # By position inside each block, not along the file: safetensors files are sorted by name.
    paths = tuple(names)
    lite = "output.1.running_mean" in paths and not any(_OFFICIAL_GATE.match(name) for name in paths)
    modules = {**_STEM, **(_HEAD_LITE if lite else _HEAD_V1)}
    found = stages_of(_highest(_OFFICIAL_BLOCK, paths) + 1 - _FIRST_POSITION)
    for block in range(found.total):
        path = f"features.{block + _FIRST_POSITION}.out."
        squeezed = any(name.startswith(f"{path}5.fc.") for name in paths)
        children = _BLOCK_FIRST if block < found.unexpanded else _BLOCK_SQUEEZED if squeezed else _BLOCK_PLAIN
        modules |= {path + position: f"features.{block}.{name}" for position, name in children.items()}
    behind = found.total + _FIRST_POSITION
    last = f"features.{found.total}"
    return {**modules, f"features.{behind}": f"{last}.conv", f"features.{behind + 1}": f"{last}.bn"}


def _highest(pattern: re.Pattern[str], names: Iterable[str]) -> int:
    return max((int(match[1]) for name in names if (match := pattern.match(name))), default=-1)


def _with_norms(state: dict[str, StoredTensor]) -> dict[str, StoredTensor]:
    """A convolution with a bias and no BatchNorm behind it had one folded in: one that adds the bias stands for it.

    No BatchNorm means none of its tensors: one that lacks a single tensor is a damaged file, and stays one.
    """
    filled = dict(state)
    norms = {name.rpartition(".")[0] for name in state}
    for name, bias in state.items():
        stem, _, leaf = name.rpartition(".")
        gate, neck = stem.endswith(".se.fc1"), stem == f"{NECK}conv"
        norm = f"{stem.removesuffix('.fc1' if gate else '.conv')}.bn"
        if leaf != "bias" or bias.ndim != 1 or norm in norms or not (gate or stem.endswith(".conv")):
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
    found = stages_of(_highest(_BLOCK, observed) + 1)
    plain = f"features.{found.unsqueezed}.conv_dw.conv.weight" in observed
    use_se = any(".se." in name for name in observed) or not plain
    classifier = state.get("head.fc.weight")
    classes = max(1, classifier.shape[0]) if classifier is not None and classifier.ndim == 2 else 1000
    hinted = () if width is None else tuple(_of_width(width, found, lite=lite, use_se=use_se))
    known = (*hinted, *_candidates(found, lite=lite, use_se=use_se))
    return replace(max(known, key=lambda spec: _agreement(spec, observed)), classes=classes)


def with_own_channels(spec: Architecture, state: Mapping[str, StoredTensor]) -> Architecture | None:
    """A network of `spec`'s kind with the channel counts that `state` has, as pruning or timm's `final_chs` leave them;
    None where tensors are missing, empty or larger than any that were trained: tensors of one file may share their
    numbers, so its size bounds nothing. Strides are `spec`'s: no tensor shows them."""

    def outputs(name: str) -> int:
        return state[f"{name}.weight"].shape[0]

    try:
        stem = inputs = outputs("stem.conv")
        blocks = []
        for index, block in enumerate(spec.blocks):
            path = f"features.{index}"
            squeeze = outputs(f"{path}.se.fc1") if f"{path}.se.fc1.weight" in state else 0
            expanded, channels = outputs(f"{path}.conv_dw.conv"), outputs(f"{path}.conv_pwl.conv")
            blocks.append(replace(block, inputs=inputs, expanded=expanded, squeeze=squeeze, outputs=channels))
            inputs = channels
        penultimate = outputs(f"features.{len(blocks)}.conv")
    except (KeyError, IndexError):
        return None
    numbers = sum(math.prod(tensor.shape) for tensor in state.values())
    if numbers > MOST_NUMBERS or not all((stem, penultimate, *(block.expanded and block.outputs for block in blocks))):
        return None
    own = replace(spec, stem=stem, blocks=tuple(blocks), penultimate=penultimate)
    return own if own == spec else replace(own, custom=True)


def _agreement(spec: Architecture, observed: Mapping[str, int]) -> int:
    return sum(observed.get(name) == channels for name, channels in _output_channels(spec))


def _output_channels(spec: Architecture) -> Iterator[tuple[str, int]]:
    yield "stem.conv.weight", spec.stem
    yield f"features.{len(spec.blocks)}.conv.weight", spec.penultimate
    for index, block in enumerate(spec.blocks):
        yield f"features.{index}.conv_dw.conv.weight", block.expanded
        yield f"features.{index}.conv_pwl.conv.weight", block.outputs
        if block.squeeze:
            yield f"features.{index}.se.fc1.weight", block.squeeze


@cache
def _candidates(found: Stages, *, lite: bool, use_se: bool) -> tuple[Architecture, ...]:
    # Rounded channels make some neighbouring widths the same network (lite 0.74 and 0.75): the rounder name wins.
    others = sorted(HUNDREDTHS, key=lambda hundredths: (hundredths % 10 > 0) + (hundredths % 5 > 0))
    widths = (*PUBLISHED_WIDTHS, *(hundredths / 100 for hundredths in others))
    return tuple(spec for width in widths for spec in _of_width(width, found, lite=lite, use_se=use_se))


def _of_width(width: float, found: Stages, *, lite: bool, use_se: bool) -> Iterator[Architecture]:
    variants: tuple[Variant, ...] = ("lite",) if lite else ("v1", "r")
    for variant in variants:
        spec = architecture(variant, width, use_se=use_se, stages=found)
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
