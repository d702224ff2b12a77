"""The layers that heads are made of: linear ones and BatchNorms, as tensors have them, and several as one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rexnet_export.pipeline.checkpoint.key_formats import COUNTER
from rexnet_export.pipeline.core.errors import CheckpointError
from rexnet_export.pipeline.core.text import excerpt
from rexnet_export.pipeline.pickles.stored_tensor import StoredTensor

COSINE = re.compile(r"(arc|cos|margin|proxy|proxies|centers?|prototypes?)", re.IGNORECASE)
EPSILON = 1e-5  # torch's, of BatchNorm1d
_NUMBER = re.compile(r"(\d+)")
_NORMALIZATION = frozenset({"weight", "bias", "running_mean", "running_var", COUNTER})

type Tensors = Mapping[str, StoredTensor]


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One module with tensors: a linear layer, or a BatchNorm over features."""

    path: str
    tensors: Tensors
    inputs: int
    outputs: int
    normalizes: bool = False

    @property
    def names(self) -> list[str]:
        """Of its tensors in the file."""
        return [f"{self.path}.{leaf}" if self.path else leaf for leaf in self.tensors]

    def affine(self) -> tuple[Tensor, Tensor]:
        """As a matrix [outputs, inputs] and a vector, float64."""
        stored = {leaf: tensor.read().double() for leaf, tensor in self.tensors.items() if leaf != COUNTER}
        if not self.normalizes:
            weight = stored["weight"].flatten(1)
            return weight, stored.get("bias", torch.zeros(len(weight), dtype=torch.float64))
        scale = (stored["running_var"] + EPSILON).rsqrt() * stored.get("weight", torch.tensor(1.0))
        return torch.diag(scale), stored.get("bias", torch.zeros_like(scale)) - stored["running_mean"] * scale


def folded(layers: Sequence[Layer]) -> tuple[Tensor, Tensor]:
    """Layers that follow one another as one: [outputs, inputs] and [outputs], float64."""
    weight, bias = layers[0].affine()
    for layer in layers[1:]:
        after, added = layer.affine()
        weight, bias = after @ weight, after @ bias + added
    return weight, bias


def layer_of(path: str, tensors: Tensors, where: str) -> Layer:
    """The layer that a module's tensors are; `CheckpointError` for any other module."""
    for leaf, tensor in tensors.items():
        if leaf != COUNTER and not tensor.dense:  # what is left out counts as nothing: a bias as zeros
            name = f"{path}.{leaf}".removeprefix(".")
            raise CheckpointError(f"{where}: {excerpt(name)} is {tensor}: give dense floating-point weights")
    shape = _matrix(tensors)
    if shape is not None:
        return Layer(path=path, tensors=tensors, inputs=shape[1], outputs=shape[0])
    if _is_normalization(tensors):
        width = tensors["running_mean"].shape[0]
        return Layer(path=path, tensors=tensors, inputs=width, outputs=width, normalizes=True)
    raise CheckpointError(
        f"{where}: {excerpt(path) or 'its head'} ({_held(tensors)}) is neither a linear layer nor a BatchNorm; give "
        "weights whose head is a linear layer"
    )


def is_affine_name(name: str, tensors: Tensors) -> bool:
    """Whether a tensor belongs to a module that is a linear layer or a BatchNorm."""
    path = name.rpartition(".")[0]
    start = f"{path}." if path else ""
    return is_affine({n.removeprefix(start): each for n, each in tensors.items() if n.rpartition(".")[0] == path})


def grouped(tensors: Tensors) -> dict[str, dict[str, StoredTensor]]:
    """Tensors by module, modules in the order people count them (2 before 10)."""
    modules: dict[str, dict[str, StoredTensor]] = {}
    for name in sorted(tensors, key=_natural):
        path, _, leaf = name.rpartition(".")
        modules.setdefault(path, {})[leaf] = tensors[name]
    return modules


def _natural(name: str) -> tuple[tuple[int, str], ...]:
    return tuple((int(part), "") if part.isdigit() and len(part) < 9 else (-1, part) for part in _NUMBER.split(name))


def is_affine(tensors: Tensors) -> bool:
    """Whether a module's tensors are those of a linear layer or a BatchNorm."""
    return _matrix(tensors) is not None or _is_normalization(tensors)


def is_linear(tensors: Tensors, inputs: int) -> bool:
    """Whether a module's tensors are those of a linear layer that takes so many numbers."""
    shape = _matrix(tensors)
    return shape is not None and shape[1] == inputs


def refuse_strangers(found: Mapping[str, Tensors], layers: Sequence[Layer], where: str) -> None:
    """`CheckpointError` where a module that is no layer known here may stand before, between or behind `layers`.

    It does where it is in a `Sequential` with one of them, or where its tensors have the width of what one takes: a
    LayerNorm, PReLU or attention, or a BatchNorm that lost a tensor. Others, as those of losses, are no part of it.
    """
    inside = {f"{mother}." for layer in layers if (mother := parent(layer.path)) != layer.path}
    widths = {layer.inputs for layer in layers}
    for path, tensors in found.items():
        if is_affine(tensors):
            continue
        takes = any(each.shape and each.shape[-1] in widths for each in tensors.values())
        if takes or any(path.startswith(start) for start in inside):
            raise CheckpointError(
                f"{where}: {excerpt(path) or 'a module'} ({_held(tensors)}) is neither a linear layer nor a whole "
                f"BatchNorm, and may change what {excerpt(layers[-1].path)} takes; give weights without it, if it "
                "is no part of the network, or with a plain classifier"
            )


def refuse_unfolded(found: Mapping[str, Tensors], features: int, where: str) -> None:
    """`CheckpointError` where a module that takes the features is a linear layer only once something is folded in.

    weight_norm and spectral_norm keep a weight in parts; others scale what it gives.
    """
    for path, tensors in found.items():
        takes = any(each.ndim == 2 and each.shape[1] == features for each in tensors.values())
        if takes and not is_affine(tensors):
            raise CheckpointError(
                f"{where}: {excerpt(path) or 'its head'} ({_held(tensors)}) is no plain linear layer; fold all of it "
                "into one weight and bias, as torch's `remove_parametrizations` or `remove_weight_norm` do, and save "
                "again"
            )


def _held(tensors: Tensors) -> str:
    return ", ".join(f"{excerpt(name)} {list(each.shape)}" for name, each in list(tensors.items())[:3])


def _is_normalization(tensors: Tensors) -> bool:
    return (
        {"running_mean", "running_var"} <= set(tensors) <= _NORMALIZATION
        and ("weight" in tensors) == ("bias" in tensors)
        and all(each.ndim <= 1 for each in tensors.values())
    )


def _matrix(tensors: Tensors) -> tuple[int, int] | None:
    """[outputs, inputs] of a linear layer, or of a 1 x 1 convolution on pooled features."""
    weight = tensors.get("weight")
    if weight is None or not set(tensors) <= {"weight", "bias"} or min(weight.shape, default=0) < 1:
        return None
    if weight.ndim != 2 and (weight.ndim != 4 or weight.shape[2:] != (1, 1)):
        return None
    bias = tensors.get("bias")
    return None if bias is not None and bias.shape != weight.shape[:1] else (weight.shape[0], weight.shape[1])


def place(path: str) -> tuple[str | None, int | None]:
    """The module that a numbered layer is in, and its number; None where it has none."""
    mother, _, last = path.rpartition(".")
    return (mother, int(last)) if last.isdigit() and len(last) < 9 else (None, None)


def parent(path: str) -> str:
    """The module whose numbered layer this is, else the layer itself."""
    mother, number = place(path)
    return path if number is None or not mother else mother
