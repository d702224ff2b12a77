"""Reading any ReXNet checkpoint by its content, and writing ours.

Untrusted files never run code, and no tensor of theirs is allocated before its name and shape are a ReXNet's.
Our format is safetensors whose metadata says what the network is, its labels and its preprocessing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from rexnet_export.pipeline.checkpoint.assemble import assemble, check_values
from rexnet_export.pipeline.checkpoint.copies import Copy, chosen, copies, groups
from rexnet_export.pipeline.checkpoint.file import FileContent, read_file
from rexnet_export.pipeline.checkpoint.foreign_settings import (
    CONFIG_FILE,
    config_beside,
    of_training,
    read_config,
)
from rexnet_export.pipeline.checkpoint.heads import NONE
from rexnet_export.pipeline.checkpoint.hub import fetch
from rexnet_export.pipeline.checkpoint.metadata import (
    Stated,
    check_channels,
    check_claims,
    check_label_count,
    encode,
    head_activation,
    is_ours,
    read_stated,
    width_hint,
)
from rexnet_export.pipeline.checkpoint.reference import LOCAL, on_hub, weights_at
from rexnet_export.pipeline.checkpoint.unseen_options import check_unseen
from rexnet_export.pipeline.core.errors import CheckpointError, UsageError
from rexnet_export.pipeline.core.files import TRAINING_STATE
from rexnet_export.pipeline.core.records import Preprocess, Reading, StoredFile, stored_file, stored_files, write_whole
from rexnet_export.pipeline.model.architecture import PUBLISHED, Architecture
from rexnet_export.pipeline.model.rexnet import ReXNet
from rexnet_export.pipeline.pickles.stored_tensor import StoredTensor

USUAL = Reading()
HALF_MAX = torch.finfo(torch.float16).max


@dataclass(frozen=True, kw_only=True)
class LoadedCheckpoint:
    """A network in eval mode and float32, and all its file says.

    `stated` is what the file, and a `config.json` that belongs to it, say of preprocessing and labels, field by field
    with the source of each. `notes` are lines that a person should read: what was chosen among several, and what was
    ignored. `metadata` adds `keys` (whose names the file used: rexnet-export, timm or clovaai) and `weights` (the
    wrapper the tensors were taken from, such as `state_dict_ema`, or `plain`).
    """

    network: ReXNet
    file: StoredFile
    metadata: dict[str, str]
    stated: Stated
    notes: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[str, ...] | None:
        """One name a class, where anything states them."""
        return self.stated.labels

    @property
    def preprocess(self) -> Preprocess | None:
        """What is stated with the usual values in place of what is not; None where nothing is."""
        given = self.stated.preprocess.fields(self.network.spec.channels)
        return Preprocess(**given) if given else None


def load(reference: str, reading: Reading = USUAL) -> LoadedCheckpoint:
    """Load a file, a folder with weights in it, or a repository of the hub; `load_checkpoint` has the rest."""
    repository = on_hub(reference)
    if repository is None:
        path = weights_at(reference)
        loaded = load_checkpoint(path, reading)
        return replace(loaded, notes=(*_training_notes(path, reference), *loaded.notes))
    fetched = fetch(repository)
    loaded = load_checkpoint(fetched.path, reading, config=fetched.config)
    return replace(loaded, metadata={**loaded.metadata, "source": repository})


def load_checkpoint(path: Path, reading: Reading = USUAL, *, config: Path | None = None) -> LoadedCheckpoint:
    """Load a checkpoint of any known key format; variant, width, classes and SE come from the tensors' shapes.

    `config` is the `config.json` that comes with it; without, one beside the file serves if it is a ReXNet's.
    """
    content = read_file(path)
    metadata = content.metadata
    stated = _stated(content, path, config)
    copy, note = chosen(_copies(content.values, path), reading.weights, str(path))
    if (activation := content.head_activation or head_activation(metadata, str(path))) is not None:
        if reading.head_activation not in {None, NONE, activation}:
            raise UsageError(f"--head-activation {reading.head_activation}: {path} says {activation}; leave it out")
        reading = replace(reading, head_activation=activation, activation_stated=True)
    assembled = assemble(copy, width_hint(metadata), reading, str(path))
    content.check(assembled.network)
    spec = assembled.network.spec
    if assembled.headless:
        stated = replace(stated, labels=None, labels_source=None)
        if not reading.headless:
            raise CheckpointError(
                f"{path} has no classifier: use `rexnet-export backbone`, or give it one with `rexnet-train --from`"
            )
    check_claims(metadata, spec, str(path))
    check_label_count(stated.labels, spec, str(path))
    check_channels(stated.preprocess, spec, str(path))
    origin = {"keys": "rexnet-export" if is_ours(metadata) else assembled.keys, "weights": copy.wrapper}
    return LoadedCheckpoint(
        network=assembled.network,
        file=stored_files(path, content.beside),
        metadata={**metadata, **origin},
        stated=stated,
        notes=(*((note,) if note else ()), *_depth_notes(spec, metadata), *assembled.notes),
    )


def _training_notes(path: Path, reference: str) -> tuple[str, ...]:
    """Which file of a training run's folder was taken."""
    chosen_here = path.parent == Path(reference.removeprefix(LOCAL)) and path.name != TRAINING_STATE
    if not chosen_here or not (path.parent / TRAINING_STATE).is_file():
        return ()
    return (f"took {path.name} of {path.parent}: {TRAINING_STATE} beside it is what rexnet-train goes on from",)


def _depth_notes(spec: Architecture, metadata: Mapping[str, str]) -> tuple[str, ...]:
    """What is assumed of a network of another depth, where its file does not state it."""
    if spec.published_depth or is_ours(metadata):
        return ()
    number = f"{len(spec.blocks)} blocks where a published ReXNet has {PUBLISHED.total}"
    return (f"{number}: read as timm's depth_mult makes them, with strides {spec.strides}, which no tensor shows",)


def _copies(values: object, path: Path) -> tuple[Copy, ...]:
    """The networks in a file, or all that its largest dictionary holds, for a message that says how it is none."""
    if found := copies(values):
        return found
    largest: tuple[tuple[str, ...], Mapping[str, StoredTensor]] = max(
        groups(values), key=lambda group: len(group[1]), default=((), {})
    )
    if not largest[1]:
        raise CheckpointError(f"{path} holds no named tensors: give a state_dict saved by torch.save, or safetensors")
    if any(name.endswith("_flat_param") for name in largest[1]):
        raise CheckpointError(f"{path} holds FSDP's flat shards: save with StateDictType.FULL_STATE_DICT")
    return (Copy(place=largest[0], prefix="", inside=largest[1], outside={}),)


def _stated(content: FileContent, path: Path, config: Path | None) -> Stated:
    """Our metadata or a graph's own, then the training run's own words, then `config.json`."""
    ours = read_stated(content.metadata, str(path)).over(content.stated)
    training = of_training(content.values, str(path))
    beside = config_beside(path) if config is None else read_config(config)
    check_unseen(training.options, str(path))
    check_unseen(beside.options, f"{CONFIG_FILE} of {path}")
    return ours.over(training.stated).over(beside.stated)


def save_checkpoint(
    path: Path,
    network: ReXNet,
    *,
    labels: tuple[str, ...] | None,
    preprocess: Preprocess | None,
    metadata: Mapping[str, str],
    half: bool,
) -> StoredFile:
    """Write our format, whole or not at all; `half` stores float16, except tensors whose values do not fit it.

    Equal arguments give equal bytes. Keys of ours in `metadata` are replaced by what `network` really is.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    check_values(state, str(path))
    check_label_count(labels, network.spec, str(path))
    if half:
        state = {name: _halved(tensor) for name, tensor in state.items()}
    kept = {key: value for key, value in metadata.items() if key not in ("labels", "preprocess")}
    _write(path, serialized(state, {**kept, **encode(network.spec, labels, preprocess)}))
    return stored_file(path)


def _halved(tensor: Tensor) -> Tensor:
    fits = tensor.is_floating_point() and bool(tensor.abs().max() <= HALF_MAX)
    return tensor.half() if fits else tensor


def serialized(state: dict[str, Tensor], metadata: dict[str, str]) -> bytes:
    """The content of a safetensors file; its metadata is sorted, so that the same network has the same digest."""
    raw = save(state, metadata)
    end = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + raw[end:]


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
    except OSError as error:
        raise CheckpointError(f"cannot write checkpoint {path}: {error.strerror}") from error
