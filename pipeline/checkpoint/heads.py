"""Which tensors are a network's heads, whatever they are called, and what layers they amount to.

A state dict says what layers hold, not how they are wired: what stores nothing (dropout, an activation) shows only as
a gap in the numbers of a `Sequential`. What can be told exactly is folded; an activation that may be is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from rexnet_export.pipeline.checkpoint.head_layers import (
    COSINE,
    Layer,
    Tensors,
    grouped,
    is_affine,
    is_linear,
    layer_of,
    parent,
    place,
    refuse_strangers,
)
from rexnet_export.pipeline.checkpoint.head_names import head_names
from rexnet_export.pipeline.core.errors import CheckpointError, UsageError
from rexnet_export.pipeline.core.records import ACTIVATIONS, Reading
from rexnet_export.pipeline.core.text import excerpt
from rexnet_export.pipeline.model.head import OTHERS
from rexnet_export.pipeline.pickles.stored_tensor import StoredTensor

NONE, OWN = "none", "head."


@dataclass(frozen=True, kw_only=True)
class Chain:
    """One head: stages that are one linear layer each, with an activation between them, and what was taken for granted.

    `path` is where it stands in the file.
    """

    path: str
    stages: tuple[tuple[Layer, ...], ...]
    used: frozenset[str]
    notes: tuple[str, ...] = ()

    @property
    def outputs(self) -> int:
        """How many numbers it gives."""
        return self.stages[-1][-1].outputs

    @property
    def hidden(self) -> tuple[int, ...]:
        """Channels of the layers in front of the last."""
        return tuple(stage[-1].outputs for stage in self.stages[:-1])


@dataclass(frozen=True, kw_only=True)
class Heads:
    """The head whose outputs are the logits, and the others by name."""

    logits: Chain
    others: Mapping[str, Chain]
    notes: tuple[str, ...]

    @property
    def used(self) -> frozenset[str]:
        """Names of tensors of all of them."""
        return frozenset[str]().union(self.logits.used, *(chain.used for chain in self.others.values()))


def find_heads(
    inside: Mapping[str, StoredTensor],
    outside: Mapping[str, StoredTensor],
    features: int,
    reading: Reading,
    where: str,
) -> Heads | None:
    """The heads among the tensors in the network's own modules but its trunk's, or beside it; None for no head at all.

    Raises `CheckpointError` where layers cannot be put in order, or an activation may stand between them and none is
    named; `UsageError` where `reading` names a head that there is not.
    """
    own, beside = [layer_of(path, tensors, where) for path, tensors in grouped(inside).items()], grouped(outside)
    chains = _own(own, beside, features, reading, where) if own else _beside(beside, features, reading, where)
    return _chosen(chains, reading, where) if chains else None


def _own(
    own: list[Layer], beside: Mapping[str, Tensors], features: int, reading: Reading, where: str
) -> tuple[Chain, ...]:
    """Heads in the network's own modules, with linear ones beside it."""
    starts = _starts(own, features)
    if not starts:
        named = ", ".join(f"{layer.path} takes {layer.inputs}" for layer in own[:3])
        raise CheckpointError(f"{where}: no layer of its head takes the network's {features} features ({named})")
    chains = _chains(own, starts, features, reading, where)
    rivals = [path for path, found in beside.items() if is_linear(found, features) and not _deeper(path, beside)]
    if rivals and not COSINE.search(rivals[0]):
        others = [_chain([layer_of(path, beside[path], where)], features, reading, where) for path in rivals]
        return (*chains, *others)
    if len(chains) > 1 or chains[0].outputs == features:
        return chains
    (chain,) = chains
    stacked = [path for path, found in beside.items() if is_linear(found, chain.outputs) and not _deeper(path, beside)]
    if len(stacked) != 1:
        return chains
    last = layer_of(stacked[0], beside[stacked[0]], where)
    refuse_strangers(beside, [last], where)
    return (_stacked(chain, last, reading),)


def _stacked(chain: Chain, last: Layer, reading: Reading) -> Chain:
    """A wrapper's layer on the outputs of the network's own classifier."""
    given = f"{excerpt(last.path)} takes the {chain.outputs} outputs of {excerpt(chain.stages[-1][-1].path)}"
    used = chain.used | frozenset(last.names)
    if reading.head_activation not in {None, NONE}:
        note = f"{given}: with {reading.head_activation} between them, as --head-activation says"
        return replace(chain, stages=(*chain.stages, (last,)), used=used, notes=(*chain.notes, note))
    note = f"{given}: folded into one layer, as nothing in the file stands between them"
    stages = (*chain.stages[:-1], (*chain.stages[-1], last))
    return replace(chain, stages=stages, used=used, notes=(*chain.notes, note))


def _beside(found: Mapping[str, Tensors], features: int, reading: Reading, where: str) -> tuple[Chain, ...]:
    """Heads that stand beside a trunk without one, as wrappers have them; all between the two must be understood."""
    powers = [path for path, tensors in found.items() if set(tensors) == {"p"}]
    if powers:
        raise CheckpointError(
            f"{where} pools with a power ({excerpt(powers[0])}.p, GeM), where only the average is exported"
        )
    linear = {path: tensors for path, tensors in found.items() if is_affine(tensors)}
    heads = [path for path, tensors in linear.items() if is_linear(tensors, features)]
    if not heads:
        return ()
    if cosine := [path for path in heads if COSINE.search(path)]:
        raise CheckpointError(
            f"{where}: {excerpt(cosine[0])} compares angles with its classes, which is no linear layer; give weights "
            "with a plain classifier"
        )
    layers = [layer_of(path, tensors, where) for path, tensors in linear.items()]
    starts = _starts(layers, features)
    refuse_strangers(found, [layer for members in starts.values() for layer in members], where)
    return _chains(layers, starts, features, reading, where)


def _starts(layers: Sequence[Layer], features: int) -> dict[str, list[Layer]]:
    """Layers by the module they belong to, of those modules whose first linear layer takes the features.

    Layers of one list that all take the features, and do not follow each other, are modules of their own.
    """
    modules: dict[str, list[Layer]] = {}
    for layer in layers:
        modules.setdefault(parent(layer.path), []).append(layer)
    starts: dict[str, list[Layer]] = {}
    for start, members in modules.items():
        linear = [layer for layer in members if not layer.normalizes]
        if not linear or linear[0].inputs != features:
            continue
        if len(linear) > 1 and all(layer.inputs == features != layer.outputs for layer in linear):
            starts |= {layer.path: [layer] for layer in linear}
        else:
            starts[start] = members
    return starts


def _chains(
    layers: Sequence[Layer], starts: Mapping[str, list[Layer]], features: int, reading: Reading, where: str
) -> tuple[Chain, ...]:
    """Every start with what belongs to it: a BatchNorm of the features before it, and behind a single one what follows.

    Where several heads have layers outside their own modules nothing says whose they are.
    """
    taken = {layer.path for members in starts.values() for layer in members}
    loose = [layer for layer in layers if layer.path not in taken]
    before = [layer for layer in loose if layer.normalizes and layer.inputs == features]
    loose = [layer for layer in loose if layer not in before]
    chains = []
    for members in starts.values():
        behind = _behind(members[-1], loose)
        if behind and len(starts) > 1:
            raise CheckpointError(
                f"{where} has several heads, and {excerpt(behind[0].path)} may belong to any of them; save each head "
                "as one Sequential"
            )
        chains.append(_chain([*before, *members, *behind], features, reading, where))
    return tuple(chains)


def _behind(last: Layer, loose: Sequence[Layer]) -> list[Layer]:
    """Layers that can follow one another by what they take, in the order of their names."""
    found: list[Layer] = []
    waiting = list(loose)
    while waiting:
        following = next((layer for layer in waiting if layer.inputs == last.outputs), None)
        if following is None:
            break
        waiting.remove(following)
        found.append(following)
        last = following
    return found


def _chain(layers: Sequence[Layer], features: int, reading: Reading, where: str) -> Chain:
    """Layers in their order, each taking what the one before gives, cut where an activation stands."""
    width, notes = features, list(_unseen_before(layers[0]))
    for layer in layers:
        if layer.inputs != width:
            raise CheckpointError(
                f"{where}: {excerpt(layer.path)} takes {layer.inputs} numbers where {width} are given"
            )
        width = layer.outputs
    cuts = [_cut(layers, first, second) for first, second in _linear_pairs(layers)]
    places = [place for place in cuts if place is not None]
    if places and reading.head_activation is None:
        before, after = layers[places[0] - 1], layers[places[0]]
        raise CheckpointError(
            f"{where}: between {excerpt(before.path)} and {excerpt(after.path)} there may be an activation, which a "
            f"state dict does not show: give --head-activation ({', '.join(ACTIVATIONS)}); a head "
            "with another one cannot be exported"
        )
    if places and reading.head_activation != NONE and not reading.activation_stated:
        named = ", ".join(excerpt(layers[place - 1].path) for place in places)
        notes.append(f"{reading.head_activation} stands behind {named}, as --head-activation says")
    ends = [0, *(places if reading.head_activation != NONE else ()), len(layers)]
    return Chain(
        path=parent(layers[0].path) if len(layers) > 1 else layers[0].path,
        stages=tuple(tuple(layers[start:end]) for start, end in pairwise(ends)),
        used=frozenset(name for layer in layers for name in layer.names),
        notes=tuple(notes),
    )


def _linear_pairs(layers: Sequence[Layer]) -> Iterable[tuple[int, int]]:
    linear = [index for index, layer in enumerate(layers) if not layer.normalizes]
    return pairwise(linear)


def _cut(layers: Sequence[Layer], first: int, second: int) -> int | None:
    """Where an activation may stand between two linear layers: the index of the layer behind it.

    Numbers of a `Sequential` show where something stores nothing; the first such place behind the linear layer is the
    activation's, a later one dropout's. Names without numbers show nothing: there it stands last, behind a BatchNorm.
    """
    gaps = [index for index in range(first + 1, second + 1) if not _neighbours(layers[index - 1], layers[index])]
    if not gaps:
        return None
    numbered = all(place(layer.path)[1] is not None for layer in layers[first : second + 1])
    return gaps[0] if numbered else gaps[-1]


def _neighbours(before: Layer, after: Layer) -> bool:
    (mother, first), (other, second) = place(before.path), place(after.path)
    return mother == other and first is not None and second == first + 1


def _unseen_before(layer: Layer) -> Iterable[str]:
    mother, number = place(layer.path)
    if number and mother is not None:
        more = f" to .{number - 1} store" if number > 1 else " stores"
        yield f"{excerpt(mother)}.0{more} nothing: taken for dropout"


def _deeper(path: str, found: Mapping[str, object]) -> bool:
    """Whether a layer is only the first of several in its `Sequential`, as a projection head's is."""
    mother, _ = place(path)
    return mother is not None and sum(other.startswith(mother + ".") for other in found) > 1


def _chosen(chains: Sequence[Chain], reading: Reading, where: str) -> Heads:
    """The head that `reading` names, else the first that gives more than one number; timm's own comes first."""
    chains = sorted(chains, key=lambda chain: not f"{chain.path}.".startswith(OWN) or chain.path.startswith(OTHERS))
    if len(chains) == 1 and reading.head is None:
        return Heads(logits=chains[0], others={}, notes=chains[0].notes)
    named = dict(zip(head_names([chain.path for chain in chains]), chains, strict=True))
    offered = ", ".join(f"{name}: {chain.outputs}" for name, chain in named.items())
    if reading.head is not None and reading.head not in named:
        raise UsageError(f"--head {excerpt(reading.head)} names no head of {where}: choose one of {offered}")
    written_here = chains[-1].path.startswith(OTHERS)
    if written_here and reading.head is not None and named[reading.head] is not chains[0]:
        raise UsageError(
            f"--head {reading.head}: {where} says that its logits and labels are those of {next(iter(named))}; choose "
            "in the checkpoint that it was made from"
        )
    classifying = [name for name, chain in named.items() if chain.outputs > 1 and not written_here]
    name = reading.head or next(iter([*classifying, *named]))
    notes = tuple(dict.fromkeys(note for chain in chains for note in chain.notes))
    if reading.head is None and not written_here:
        told = f"the file has {len(named)} heads ({offered}): the logits are those of {name}, the others are outputs"
        notes = (f"{told} beside them; --head chooses", *notes)
    others = {other: chain for other, chain in named.items() if other != name}
    return Heads(logits=named[name], others=others, notes=notes)
