"""Reading any ReXNet checkpoint by its content, and writing ours.

Untrusted files never run code: pickles go through torch's weights-only reader, everything else is safetensors.
Our format is safetensors whose metadata says what the network is, its labels and its preprocessing.
"""

from __future__ import annotations

import argparse
import json
import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from rexnet_export.pipeline.core.errors import CheckpointError
from rexnet_export.pipeline.core.records import Preprocess, StoredFile, stored_file, write_whole
from rexnet_export.pipeline.core.text import excerpt
from rexnet_export.pipeline.model.checkpoint_metadata import (
    Stated,
    check_claims,
    check_label_count,
    encode,
    is_ours,
    read_stated,
    width_hint,
)
from rexnet_export.pipeline.model.foreign_settings import (
    CONFIG_FILE,
    check_pooling,
    config_beside,
    of_training,
    read_config,
)
from rexnet_export.pipeline.model.hub import PREFIX, fetch
from rexnet_export.pipeline.model.key_formats import COUNTER, canonical, difference, nearest_architecture, unwrap
from rexnet_export.pipeline.model.rexnet import ReXNet

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
        given = self.stated.preprocess.fields(str(self.file.path))
        return Preprocess(**given) if given else None


def load(reference: str) -> LoadedCheckpoint:
    """Load a file, or a Hugging Face repository written as `hf-hub:owner/name`."""
    if not reference.startswith(PREFIX):
        return load_checkpoint(Path(reference))
    fetched = fetch(reference)
    loaded = load_checkpoint(fetched.path, fetched.config)
    return replace(loaded, metadata={**loaded.metadata, "source": reference})


def load_checkpoint(path: Path, config: Path | None = None) -> LoadedCheckpoint:
    """Load a checkpoint of any known key format; variant, width, classes and SE come from the tensors' shapes.

    `config` is the `config.json` that comes with it; without, one beside the file serves if it is a ReXNet's.
    """
    content, metadata = _read(path)
    stated = _stated(content, metadata, path, config)
    way, tensors = unwrap(content)
    if not tensors:
        raise CheckpointError(f"{path} holds no named tensors: give a state_dict saved by torch.save, or safetensors")
    keys, state = canonical(tensors)
    spec = nearest_architecture(state, width_hint(metadata))
    with torch.device("meta"):  # no memory and no random numbers for weights that are replaced at once
        network = ReXNet(spec)
    found = difference(state, network.state_dict())
    if not found.exact:
        raise CheckpointError(
            f"{path} is no known ReXNet; nearest is {spec.name}: {found}. Give ReXNetV1, ReXNet-lite or rexnetr weights"
        )
    check_claims(metadata, spec, str(path))
    check_label_count(stated.labels, spec, str(path))
    network.load_state_dict(_sound(state, network.state_dict(), path), assign=True)
    origin = {"keys": "rexnet-export" if is_ours(metadata) else keys, "weights": ".".join(way) or "plain"}
    return LoadedCheckpoint(
        network=network.eval(),
        file=stored_file(path),
        metadata={**metadata, **origin},
        stated=stated,
    )


def _stated(content: object, metadata: Mapping[str, str], path: Path, config: Path | None) -> Stated:
    """Our metadata, then the training run's own words, then `config.json`."""
    ours, training = read_stated(metadata, str(path)), of_training(content, str(path))
    beside = config_beside(path) if config is None else read_config(config)
    check_pooling(training, str(path))
    check_pooling(beside, f"{CONFIG_FILE} of {path}")
    return ours.over(training.stated).over(beside.stated)


def _read(path: Path) -> tuple[object, dict[str, str]]:
    try:
        with path.open("rb") as stream:
            start = stream.read(16)
    except FileNotFoundError as error:
        raise CheckpointError(f"no checkpoint at {path}") from error
    except OSError as error:
        raise CheckpointError(f"cannot read checkpoint {path}: {error.strerror}") from error
    if not start:
        raise CheckpointError(f"{path} is empty: fetch or save the checkpoint again")
    if start[8:9] == b"{":  # safetensors: 8 bytes of length, then a JSON object
        return _read_safetensors(path)
    if start.startswith((b"PK", b"\x80")):  # torch's zip archive, or the bare pickle before torch 1.6
        return _read_torch(path), {}
    raise CheckpointError(f"{path} is neither a torch file nor safetensors: it starts with {start!r}")


def _read_safetensors(path: Path) -> tuple[object, dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is truncated or damaged ({_first_sentence(error)}): fetch it again") from error


def _read_torch(path: Path) -> object:
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
            # timm's training checkpoints keep their options in a Namespace, which holds values and runs nothing.
            warnings.simplefilter("ignore")
            content: object = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        detail = f" ({excerpt(named[1])})" if named else ""
        raise CheckpointError(
            f"{path} holds Python objects{detail}, not only tensors; nothing in it was run: give its state_dict()"
        ) from error
    except Exception as error:  # torch's readers fail in a dozen ways on damaged bytes
        reason = _first_sentence(error)
        raise CheckpointError(f"{path} is truncated, damaged or no state_dict ({reason}): fetch it again") from error
    return content


def _first_sentence(error: BaseException) -> str:
    return excerpt(re.split(r"\. |\n", str(error))[0] or type(error).__name__)


def _sound(state: Mapping[str, Tensor], network: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Own, dense float32 copies of all tensors; counters may be absent."""
    sound = {}
    for name in network:
        counter = name.endswith(COUNTER)
        tensor = state.get(name, torch.tensor(0)) if counter else state[name]
        if tensor.layout is not torch.strided or tensor.is_meta or not (counter or tensor.is_floating_point()):
            raise CheckpointError(f"{path}: {name} is {_kind(tensor)}: give dense floating-point weights")
        dtype = torch.int64 if counter else torch.float32
        sound[name] = tensor.detach().to(dtype).clone(memory_format=torch.contiguous_format)
    _check_values(sound, str(path))
    return sound


def _kind(tensor: Tensor) -> str:
    return f"{tensor.dtype}, {tensor.layout}, on {tensor.device}".replace("torch.", "")


def _check_values(state: Mapping[str, Tensor], where: str) -> None:
    for name, tensor in state.items():
        if broken := int((~tensor.isfinite()).sum()):
            raise CheckpointError(f"{where}: {name} has {broken} NaN or infinite of {tensor.numel()} values")
        if name.endswith("running_var") and bool((tensor < 0).any()):
            raise CheckpointError(f"{where}: {name} has negative variances")


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
    _check_values(state, str(path))
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
