"""Which tensors are a network's classifier, whatever they are called, and the one linear layer they amount to.

A state dict says what layers hold, not how they are wired: what stores nothing (dropout, an activation) shows only as a
gap in the numbers of a `Sequential`. What can be told exactly is folded, what cannot is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from rexnet_export.pipeline.checkpoint.stored_tensor import StoredTensor
from rexnet_export.pipeline.core.errors import CheckpointError
from rexnet_export.pipeline.core.text import excerpt

_NUMBER = re.compile(r"(\d+)")
_COSINE = re.compile(r"(arc|cos|margin|proxy|proxies|centers?|prototypes?)", re.IGNORECASE)
_NORMALIZATION = frozenset({"weight", "bias", "running_mean", "running_var", "num_batches_tracked"})
MOST_LISTED = 4
EPSILON = 1e-5  # torch's, of BatchNorm1d


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One module with tensors: a linear layer, or a BatchNorm over features."""

    path: str
    tensors: Mapping[str, StoredTensor]
    inputs: int
    outputs: int
    normalizes: bool = False


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """Layers applied one after the other with nothing in between, and lines about what was taken for granted."""

    layers: tuple[Layer, ...]
    used: frozenset[str]
    notes: tuple[str, ...] = ()

    @property
    def classes(self) -> int:
        """How many logits."""
        return self.layers[-1].outputs

    @property
    def inputs(self) -> int:
        """How many features it takes."""
        return self.layers[0].inputs

    def weight(self) -> Tensor:
        """[classes, features] of all layers as one."""
        return self._folded()[0]

    def bias(self) -> Tensor:
        """[classes] of all layers as one; zeros where no layer has one."""
        return self._folded()[1]

    def _folded(self) -> tuple[Tensor, Tensor]:
        weight, bias = _affine(self.layers[0])
        for layer in self.layers[1:]:
            after, added = _affine(layer)
            weight, bias = after @ weight, after @ bias + added
        return weight, bias


def classifier(
    inside: Mapping[str, StoredTensor], outside: Mapping[str, StoredTensor], features: int, where: str
) -> Classifier | None:
    """The head among the tensors in the network's own modules but its trunk's, or beside it; None for no head at all.

    Raises `CheckpointError` where layers cannot be put in order, or there are several heads.
    """
    own = _layers(inside, where)
    first = [layer for layer in own if layer.inputs == features]
    beside = _grouped(outside)
    if not own:
        return _beside(beside, features, where)
    if not first:
        named = ", ".join(f"{layer.path} takes {layer.inputs}" for layer in own[:3])
        raise CheckpointError(f"{where}: no layer of its head takes the network's {features} features ({named})")
    chain = _chain(own, features, where)
    rivals = [path for path, found in beside.items() if _is_linear(found, features) and not _deeper(path, beside)]
    if rivals and not _COSINE.search(rivals[0]):
        raise _several([chain.layers[0].path, *rivals], features, where)
    stacked = [path for path, found in beside.items() if _is_linear(found, chain.classes) and not _deeper(path, beside)]
    if len(stacked) == 1 and chain.classes != features:
        last = _layer(stacked[0], beside[stacked[0]], where)
        note = (
            f"{excerpt(stacked[0])} takes the {chain.classes} outputs of {excerpt(chain.layers[-1].path)}: folded into "
            "one layer, as nothing in the file stands between them"
        )
        return Classifier(
            layers=(*chain.layers, last), used=chain.used | frozenset(_names(last)), notes=(*chain.notes, note)
        )
    return chain


def _beside(found: Mapping[str, Mapping[str, StoredTensor]], features: int, where: str) -> Classifier | None:
    """A head that stands beside a trunk without one, as wrappers have it; all between the two must be understood."""
    powers = [path for path, tensors in found.items() if set(tensors) == {"p"}]
    if powers:
        raise CheckpointError(
            f"{where} pools with a power ({excerpt(powers[0])}.p, GeM), where only the average is exported"
        )
    linear = {path: tensors for path, tensors in found.items() if _is_affine(tensors)}
    heads = [path for path, tensors in linear.items() if _is_linear(tensors, features)]
    if not heads:
        return None
    if cosine := [path for path in heads if _COSINE.search(path)]:
        raise CheckpointError(
            f"{where}: {excerpt(cosine[0])} compares angles with its classes, which is no linear layer; give weights "
            "with a plain classifier"
        )
    starts = {_parent(path) for path in heads}
    if len(starts) > 1:
        raise _several(heads, features, where)
    (start,) = starts
    layers = [_layer(path, tensors, where) for path, tensors in linear.items()]
    own = [layer for layer in layers if layer.path.startswith(start)]
    before = [layer for layer in layers if layer not in own and layer.normalizes and layer.inputs == features]
    after = [layer for layer in layers if layer not in (*own, *before) and layer.inputs == own[-1].outputs]
    return _chain([*before, *own, *after], features, where)


def _several(heads: Iterable[str], features: int, where: str) -> CheckpointError:
    named = ", ".join(excerpt(path) for path in list(heads)[:MOST_LISTED])
    return CheckpointError(
        f"{where} has several heads on the {features} features ({named}): one output is exported, so save the weights "
        "without the others"
    )


def _layers(tensors: Mapping[str, StoredTensor], where: str) -> list[Layer]:
    return [_layer(path, found, where) for path, found in _grouped(tensors).items()]


def is_affine_name(name: str, tensors: Mapping[str, StoredTensor]) -> bool:
    """Whether a tensor belongs to a module that is a linear layer or a BatchNorm."""
    path = name.rpartition(".")[0]
    start = f"{path}." if path else ""
    module = {other.removeprefix(start): each for other, each in tensors.items() if other.rpartition(".")[0] == path}
    return _is_affine(module)


def _grouped(tensors: Mapping[str, StoredTensor]) -> dict[str, dict[str, StoredTensor]]:
    """Tensors by module, modules in the order people count them (2 before 10)."""
    modules: dict[str, dict[str, StoredTensor]] = {}
    for name in sorted(tensors, key=_natural):
        path, _, leaf = name.rpartition(".")
        modules.setdefault(path, {})[leaf] = tensors[name]
    return modules


def _natural(name: str) -> tuple[tuple[int, str], ...]:
    return tuple((int(part), "") if part.isdigit() and len(part) < 9 else (-1, part) for part in _NUMBER.split(name))


def _is_affine(tensors: Mapping[str, StoredTensor]) -> bool:
    return _matrix(tensors) is not None or _is_normalization(tensors)


def _is_linear(tensors: Mapping[str, StoredTensor], inputs: int) -> bool:
    shape = _matrix(tensors)
    return shape is not None and shape[1] == inputs


def _is_normalization(tensors: Mapping[str, StoredTensor]) -> bool:
    return {"running_mean", "running_var"} <= set(tensors) <= _NORMALIZATION and all(
        each.ndim <= 1 for each in tensors.values()
    )


def _matrix(tensors: Mapping[str, StoredTensor]) -> tuple[int, int] | None:
    """[outputs, inputs] of a linear layer, or of a 1 x 1 convolution on pooled features."""
    weight = tensors.get("weight")
    if weight is None or not set(tensors) <= {"weight", "bias"} or min(weight.shape, default=0) < 1:
        return None
    if weight.ndim != 2 and (weight.ndim != 4 or weight.shape[2:] != (1, 1)):
        return None
    bias = tensors.get("bias")
    return None if bias is not None and bias.shape != weight.shape[:1] else (weight.shape[0], weight.shape[1])


def _layer(path: str, tensors: Mapping[str, StoredTensor], where: str) -> Layer:
    shape = _matrix(tensors)
    if shape is not None:
        return Layer(path=path, tensors=tensors, inputs=shape[1], outputs=shape[0])
    if _is_normalization(tensors):
        width = tensors["running_mean"].shape[0]
        return Layer(path=path, tensors=tensors, inputs=width, outputs=width, normalizes=True)
    held = ", ".join(f"{excerpt(name)} {list(each.shape)}" for name, each in list(tensors.items())[:3])
    raise CheckpointError(
        f"{where}: {excerpt(path) or 'its head'} ({held}) is neither a linear layer nor a BatchNorm; give weights "
        "whose head is a linear layer"
    )


def _chain(layers: list[Layer], features: int, where: str) -> Classifier:
    """Layers in the order of their numbers, each taking what the one before gives."""
    heads = [layer for layer in layers if layer.inputs == features and not layer.normalizes]
    if len(heads) > 1 and not any(layer.inputs != features for layer in layers):
        raise _several([layer.path for layer in heads], features, where)
    width, notes = features, list(_unseen_before(layers[0]))
    for before, layer in zip([None, *layers], layers, strict=False):
        if layer.inputs != width:
            raise CheckpointError(
                f"{where}: {excerpt(layer.path)} takes {layer.inputs} numbers where {width} are given"
            )
        width = layer.outputs
        if before is not None:
            _check_gap(before, layer, where)
    return Classifier(layers=tuple(layers), used=frozenset(_all_names(layers)), notes=tuple(notes))


def _unseen_before(layer: Layer) -> Iterable[str]:
    parent, number = _place(layer.path)
    if number and number > 0 and parent is not None:
        yield (
            f"{excerpt(parent)}.0 to .{number - 1} store nothing: taken for dropout"
            if number > 1
            else (f"{excerpt(parent)}.0 stores nothing: taken for dropout")
        )


def _check_gap(before: Layer, layer: Layer, where: str) -> None:
    """Only neighbours in one `Sequential` are known to have nothing between them; a BatchNorm's place is usual."""
    (parent, first), (other, second) = _place(before.path), _place(layer.path)
    neighbours = parent == other and first is not None and second == first + 1
    if neighbours or before.normalizes:
        return
    raise CheckpointError(
        f"{where}: between {excerpt(before.path)} and {excerpt(layer.path)} there may be an activation, which a state "
        "dict does not show; only one linear layer, or neighbours in a Sequential, are exported"
    )


def _place(path: str) -> tuple[str | None, int | None]:
    parent, _, last = path.rpartition(".")
    return (parent, int(last)) if last.isdigit() and len(last) < 9 else (None, None)


def _parent(path: str) -> str:
    parent, number = _place(path)
    return path if number is None or not parent else parent + "."


def _deeper(path: str, found: Mapping[str, object]) -> bool:
    """Whether a layer is only the first of several in its `Sequential`, as a projection head's is."""
    parent, _ = _place(path)
    return parent is not None and sum(other.startswith(parent + ".") for other in found) > 1


def _names(layer: Layer) -> list[str]:
    return [f"{layer.path}.{leaf}" if layer.path else leaf for leaf in layer.tensors]


def _all_names(layers: Iterable[Layer]) -> list[str]:
    return [name for layer in layers for name in _names(layer)]


def _affine(layer: Layer) -> tuple[Tensor, Tensor]:
    """A layer as matrix and vector, float64."""
    read: Callable[[str], Tensor] = lambda leaf: layer.tensors[leaf].read().double()  # noqa: E731
    if not layer.normalizes:
        weight = read("weight").flatten(1)
        return weight, read("bias") if "bias" in layer.tensors else torch.zeros(len(weight), dtype=torch.float64)
    scale = (read("running_var") + EPSILON).rsqrt()
    scale = scale * read("weight") if "weight" in layer.tensors else scale
    shift = read("bias") if "bias" in layer.tensors else torch.zeros_like(scale)
    return torch.diag(scale), shift - read("running_mean") * scale
