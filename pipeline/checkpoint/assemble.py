"""From one copy's stored tensors to a network: names, shapes, classifier and values, each checked before the next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rexnet_export.pipeline.checkpoint.copies import Copy
from rexnet_export.pipeline.checkpoint.file import first_sentence
from rexnet_export.pipeline.checkpoint.head_layers import Layer, folded, grouped, is_affine_name, refuse_unfolded
from rexnet_export.pipeline.checkpoint.heads import NONE, Chain, Heads, find_heads
from rexnet_export.pipeline.checkpoint.key_formats import (
    COUNTER,
    Difference,
    KeyFormat,
    canonical,
    difference,
    is_trunk,
    nearest_architecture,
    with_own_channels,
)
from rexnet_export.pipeline.core.errors import CheckpointError, UsageError
from rexnet_export.pipeline.core.records import MOST_CHANNELS, RGB, Reading
from rexnet_export.pipeline.core.text import excerpt
from rexnet_export.pipeline.model.architecture import Architecture
from rexnet_export.pipeline.model.head import OTHER_SUFFIX, OTHERS, OtherHead
from rexnet_export.pipeline.model.rexnet import ReXNet
from rexnet_export.pipeline.pickles.stored_tensor import STRIDED, StoredTensor, held

STEM, CLASSIFIER = "stem.conv.weight", "head.fc"
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


def assemble(copy: Copy, width: float | None, reading: Reading, where: str) -> Assembled:
    """Build the network that a copy's shapes describe; `CheckpointError` says what does not fit."""
    for name, each in copy.inside.items():
        if each.kind != STRIDED:  # such a tensor may have no shape that tells whose it is
            raise CheckpointError(f"{where}: {excerpt(name)} is {each}: give dense floating-point weights")
    keys, state = canonical(copy.inside)
    state, notes = _as_rgb(state)
    spec, channel_notes = _known(state, replace(nearest_architecture(state, width), channels=_channels(state, where)))
    network = _empty(spec)
    _check_trunk(state, network, where)
    notes += channel_notes
    rest = {name: each for name, each in state.items() if not is_trunk(name)}
    layers = {name: each for name, each in rest.items() if is_affine_name(name, rest)}
    heads = find_heads(layers, copy.outside, network.head.width, reading, where)
    if heads is None and not reading.headless:
        refuse_unfolded(grouped(rest) | grouped(copy.outside), network.head.width, where)
    network = _empty(_with_heads(network.spec, heads, reading))
    if heads is not None and reading.head_activation not in {None, network.spec.activation, NONE}:
        raise UsageError(
            f"--head-activation {reading.head_activation}: no layers of a head of {where} have room for one between "
            "them, and it stands nowhere else; leave it out"
        )
    complete = {name: each for name, each in state.items() if name not in layers}
    complete |= _stand_in(network) if heads is None else _head_tensors(heads)
    _check(difference(complete, network.state_dict()), network, where)
    network.load_state_dict(sound(complete, network.state_dict(), where), assign=True)
    used = frozenset() if heads is None else heads.used
    ignored = [name for name in copy.outside if name not in used]
    if ignored:
        shown = ", ".join(excerpt(name) for name in ignored[:MOST_LISTED])
        more = ", ..." if len(ignored) > MOST_LISTED else ""
        notes += (f"ignored {len(ignored)} tensors that are no part of the network ({shown}{more})",)
    return Assembled(
        network=network.eval(),
        keys=keys,
        headless=heads is None,
        notes=(*notes, *(heads.notes if heads else ())),
    )


def _empty(spec: Architecture) -> ReXNet:
    with torch.device("meta"):  # no memory and no random numbers for weights that are replaced at once
        return ReXNet(spec)


def _with_heads(spec: Architecture, heads: Heads | None, reading: Reading) -> Architecture:
    if heads is None:
        return replace(spec, classes=STAND_IN_CLASSES)
    chains = heads.others.items()
    others = tuple(OtherHead(name=name, outputs=chain.outputs, hidden=chain.hidden) for name, chain in chains)
    hidden = heads.logits.hidden
    activates = bool(hidden) or any(other.hidden for other in others)
    return replace(
        spec,
        classes=heads.logits.outputs,
        hidden=hidden,
        activation=reading.head_activation or "none" if activates else "none",
        others=others,
    )


def _known(state: Mapping[str, StoredTensor], nearest: Architecture) -> tuple[Architecture, tuple[str, ...]]:
    """The nearest network of the family; or one with the file's own channel counts, where those fit each other."""
    own = with_own_channels(nearest, state)
    if own is None or own == nearest or not _trunk(state, _empty(own)).exact:
        return nearest, ()
    note = f"its channels are no {nearest.name}'s, which is the nearest: taken as they are, with that network's strides"
    if others := ", ".join(_other_shortcuts(own, nearest)):
        note += f"; unlike there {others}, as timm decides by channel counts and no tensor shows"
    return own, (note,)


def _other_shortcuts(own: Architecture, nearest: Architecture) -> Iterator[str]:
    """Where a network of other channels has a shortcut and the nearest has none, or the other way round."""
    for index, (mine, theirs) in enumerate(zip(own.blocks, nearest.blocks, strict=True)):
        if mine.residual != theirs.residual:
            yield f"features.{index} {'adds' if mine.residual else 'does not add'} its input"


def _trunk(state: Mapping[str, StoredTensor], network: ReXNet) -> Difference:
    expected = network.state_dict()
    trunk = {name: each for name, each in state.items() if is_trunk(name)}
    return difference(trunk, {name: each for name, each in expected.items() if is_trunk(name)})


def _check_trunk(state: Mapping[str, StoredTensor], network: ReXNet, where: str) -> None:
    """Before the classifier is looked for: of another network it would be the wrong thing to complain about."""
    if not _trunk(state, network).exact:
        _check(difference(state, network.state_dict()), network, where)


def _check(found: Difference, network: ReXNet, where: str) -> None:
    if not found.exact:
        raise CheckpointError(
            f"{where} is no known ReXNet; nearest is {network.spec.name}: {found}. "
            "Give ReXNetV1, ReXNet-lite or rexnetr weights"
        )


def _as_rgb(state: dict[str, StoredTensor]) -> tuple[dict[str, StoredTensor], tuple[str, ...]]:
    """A network of one channel as one of RGB that sees its luma: exactly the same on grey pixels."""
    stem = state.get(STEM)
    if stem is None or stem.ndim != 4 or stem.shape[1] != 1:
        return state, ()
    outputs, _, *kernel = stem.shape
    luma = torch.tensor(LUMA, dtype=torch.float64)[:, None, None]
    colour = stem.seen_as((outputs, len(LUMA), *kernel), lambda weight: (weight.double() * luma).to(weight.dtype))
    note = "the network takes one channel: artifacts take RGB and see its luma (0.299 R + 0.587 G + 0.114 B, PIL's L)"
    return {**state, STEM: colour}, (note,)


def _channels(state: Mapping[str, StoredTensor], where: str) -> int:
    """Of the images that the network takes."""
    stem = state.get(STEM)
    channels = stem.shape[1] if stem is not None and stem.ndim == 4 else RGB
    if not 1 < channels <= MOST_CHANNELS:
        raise CheckpointError(f"{where} takes images of {channels} channels: give a network of 1 to {MOST_CHANNELS}")
    return channels


def _stand_in(network: ReXNet) -> dict[str, StoredTensor]:
    """Fixed numbers that mix all features: quantization is judged by what they give, and nothing ships of them."""
    generator = torch.Generator().manual_seed(0)
    features = network.head.width
    weight = torch.randn(STAND_IN_CLASSES, features, generator=generator) / features**0.5
    return {f"{CLASSIFIER}.weight": held(weight), f"{CLASSIFIER}.bias": held(torch.zeros(STAND_IN_CLASSES))}


def _head_tensors(heads: Heads) -> dict[str, StoredTensor]:
    """Every head's layers by our names, each read when it is wanted."""
    found = _chain_tensors(CLASSIFIER, heads.logits)
    for name, chain in heads.others.items():
        found |= _chain_tensors(f"{OTHERS}{name}{OTHER_SUFFIX}", chain)
    return found


def _chain_tensors(path: str, chain: Chain) -> dict[str, StoredTensor]:
    found: dict[str, StoredTensor] = {}
    for index, stage in enumerate(chain.stages):
        layer = path if len(chain.stages) == 1 else f"{path}.{2 * index}"  # the activations have the odd numbers
        found |= _folded_tensors(layer, stage)
    return found


def _folded_tensors(layer: str, stage: tuple[Layer, ...]) -> dict[str, StoredTensor]:
    outputs, inputs = stage[-1].outputs, stage[0].inputs
    return {
        f"{layer}.weight": StoredTensor(shape=(outputs, inputs), dtype=torch.float64, read=lambda: folded(stage)[0]),
        f"{layer}.bias": StoredTensor(shape=(outputs,), dtype=torch.float64, read=lambda: folded(stage)[1]),
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
