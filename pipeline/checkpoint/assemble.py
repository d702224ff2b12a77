"""From one copy's stored tensors to a network: names, shapes, classifier and values, each checked before the next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from rexnet_export.pipeline.checkpoint.copies import Copy
from rexnet_export.pipeline.checkpoint.file import first_sentence
from rexnet_export.pipeline.checkpoint.heads import Classifier, classifier, is_affine_name
from rexnet_export.pipeline.checkpoint.key_formats import (
    COUNTER,
    Difference,
    KeyFormat,
    canonical,
    difference,
    is_trunk,
    nearest_architecture,
)
from rexnet_export.pipeline.checkpoint.stored_tensor import StoredTensor, held
from rexnet_export.pipeline.core.errors import CheckpointError
from rexnet_export.pipeline.core.text import excerpt
from rexnet_export.pipeline.model.rexnet import Architecture, ReXNet

STEM, CLASSIFIER = "stem.conv.weight", ("head.fc.weight", "head.fc.bias")
LUMA = (0.299, 0.587, 0.114)  # PIL's `L`
MOST_LISTED = 4
STAND_IN_CLASSES = 64


@dataclass(frozen=True, kw_only=True)
class Assembled:
    """A network in eval mode and float32; `headless` where its classifier is a stand-in for none."""

    network: ReXNet
    keys: KeyFormat
    headless: bool
    notes: tuple[str, ...]


def assemble(copy: Copy, width: float | None, where: str) -> Assembled:
    """Build the network that a copy's shapes describe; `CheckpointError` says what does not fit."""
    keys, state = canonical(copy.inside)
    state, notes = _as_rgb(state, where)
    network = _empty(nearest_architecture(state, width))
    _check_trunk(state, network, where)
    rest = {name: each for name, each in state.items() if not is_trunk(name)}
    layers = {name: each for name, each in rest.items() if is_affine_name(name, rest)}
    head = classifier(layers, copy.outside, network.head.fc.in_features, where)
    _set_classes(network, STAND_IN_CLASSES if head is None else head.classes)
    complete = {name: each for name, each in state.items() if name not in layers}
    complete |= _classifier_tensors(head, network)
    _check(difference(complete, network.state_dict()), network, where)
    network.load_state_dict(sound(complete, network.state_dict(), where), assign=True)
    used = frozenset() if head is None else head.used
    ignored = [name for name in copy.outside if name not in used]
    if ignored:
        shown = ", ".join(excerpt(name) for name in ignored[:MOST_LISTED])
        more = ", ..." if len(ignored) > MOST_LISTED else ""
        notes += (f"ignored {len(ignored)} tensors that are no part of the network ({shown}{more})",)
    return Assembled(
        network=network.eval(),
        keys=keys,
        headless=head is None,
        notes=(*notes, *(head.notes if head else ())),
    )


def _empty(spec: Architecture) -> ReXNet:
    with torch.device("meta"):  # no memory and no random numbers for weights that are replaced at once
        return ReXNet(spec)


def _set_classes(network: ReXNet, classes: int) -> None:
    network.spec = replace(network.spec, classes=classes)
    network.head.fc = nn.Linear(network.head.fc.in_features, classes, device="meta")


def _check_trunk(state: Mapping[str, StoredTensor], network: ReXNet, where: str) -> None:
    """Before the classifier is looked for: of another network it would be the wrong thing to complain about."""
    expected = network.state_dict()
    trunk = {name: each for name, each in state.items() if is_trunk(name)}
    if not difference(trunk, {name: each for name, each in expected.items() if name not in CLASSIFIER}).exact:
        _check(difference(state, expected), network, where)


def _check(found: Difference, network: ReXNet, where: str) -> None:
    if not found.exact:
        raise CheckpointError(
            f"{where} is no known ReXNet; nearest is {network.spec.name}: {found}. "
            "Give ReXNetV1, ReXNet-lite or rexnetr weights"
        )


def _as_rgb(state: dict[str, StoredTensor], where: str) -> tuple[dict[str, StoredTensor], tuple[str, ...]]:
    """A network of one channel as one of RGB that sees its luma: exactly the same on grey pixels."""
    stem = state.get(STEM)
    if stem is None or stem.ndim != 4 or stem.shape[1] == len(LUMA):
        return state, ()
    outputs, channels, *kernel = stem.shape
    if channels != 1:
        raise CheckpointError(
            f"{where} takes images of {channels} channels: only networks of three, or of one (grey), are exported"
        )
    luma = torch.tensor(LUMA, dtype=torch.float64)[:, None, None]
    colour = stem.seen_as((outputs, len(LUMA), *kernel), lambda weight: (weight.double() * luma).to(weight.dtype))
    note = "the network takes one channel: artifacts take RGB and see its luma (0.299 R + 0.587 G + 0.114 B, PIL's L)"
    return {**state, STEM: colour}, (note,)


def _classifier_tensors(head: Classifier | None, network: ReXNet) -> dict[str, StoredTensor]:
    classes, features = network.head.fc.out_features, network.head.fc.in_features
    if head is None:
        # Fixed numbers that mix all features: quantization is judged by what they give, and nothing ships of them.
        generator = torch.Generator().manual_seed(0)
        weight = torch.randn(classes, features, generator=generator) / features**0.5
        return dict(zip(CLASSIFIER, (held(weight), held(torch.zeros(classes))), strict=True))
    weight_name, bias_name = CLASSIFIER
    return {
        weight_name: StoredTensor(shape=(head.classes, head.inputs), dtype=torch.float64, read=head.weight),
        bias_name: StoredTensor(shape=(head.classes,), dtype=torch.float64, read=head.bias),
    }


def sound(state: Mapping[str, StoredTensor], network: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """Own, dense float32 copies of all tensors; counters may be absent."""
    values = {}
    for name in network:
        if name.endswith(COUNTER):
            values[name] = torch.tensor(0)  # inference never reads it, and some files count in other types
            continue
        tensor = state[name]
        if not tensor.dense:
            raise CheckpointError(f"{where}: {name} is {tensor}: give dense floating-point weights")
        try:
            values[name] = tensor.read().detach().to(torch.float32).clone(memory_format=torch.contiguous_format)
        except Exception as error:  # damaged bytes fail in a dozen ways
            raise CheckpointError(
                f"{where} is truncated or damaged ({name}: {first_sentence(error)}): fetch it again"
            ) from error
    check_values(values, where)
    return values


def check_values(state: Mapping[str, Tensor], where: str) -> None:
    """Refuse NaN, infinity and negative variances by name."""
    for name, tensor in state.items():
        if broken := int((~tensor.isfinite()).sum()):
            raise CheckpointError(f"{where}: {name} has {broken} NaN or infinite of {tensor.numel()} values")
        if name.endswith("running_var") and bool((tensor < 0).any()):
            raise CheckpointError(f"{where}: {name} has negative variances")
