"""A network is found wherever it stands in a file, by its stem; which of several was taken is told."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from rexnet_export.pipeline.checkpoint.load import LoadedCheckpoint, load_checkpoint
from rexnet_export.pipeline.core.errors import CheckpointError, UsageError
from rexnet_export.pipeline.core.records import Reading
from rexnet_export.pipeline.model.architecture import architecture
from rexnet_export.pipeline.model.rexnet import ReXNet


def state_of(seed: int) -> dict[str, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return dict(ReXNet(architecture(width=0.1, classes=4)).state_dict())


STATES = [state_of(seed) for seed in range(3)]
GOOD, BAD, WORSE = STATES
TRUNK = {name: each for name, each in GOOD.items() if not name.startswith("head.")}
HEAD = {name.removeprefix("head.fc."): each for name, each in GOOD.items() if name.startswith("head.fc.")}


def under(prefix: str, state: dict[str, Tensor] = GOOD) -> dict[str, Tensor]:
    return {prefix + name: each for name, each in state.items()}


def loaded(folder: Path, content: object, weights: str | None = None) -> LoadedCheckpoint:
    torch.save(content, folder / "a.pth")
    return load_checkpoint(folder / "a.pth", Reading(weights=weights))


def is_good(checkpoint: LoadedCheckpoint) -> bool:
    state = checkpoint.network.state_dict()
    return state.keys() == GOOD.keys() and all(torch.equal(each, GOOD[name]) for name, each in state.items())


@pytest.mark.parametrize(
    "prefix",
    [
        *("module.", "_orig_mod.", "model.", "net.", "backbone.", "timm_model.", "model.backbone.timm_model."),
        *("module._orig_mod.encoder.0.", "_fsdp_wrapped_module.", "anything at all."),
    ],
)
def test_whatever_stands_before_the_stem_is_its_prefix(tmp_path: Path, prefix: str) -> None:
    assert is_good(checkpoint := loaded(tmp_path, under(prefix)))
    assert checkpoint.notes == ()


def test_wrappers_between_modules_are_no_part_of_their_names(tmp_path: Path) -> None:
    changed = {name.replace("features.3.", "features.3._orig_mod."): each for name, each in GOOD.items()}
    changed = {name.replace("stem.", "stem._fsdp_wrapped_module."): each for name, each in changed.items()}
    assert is_good(loaded(tmp_path, changed))


def test_strangers_beside_the_network_are_ignored_aloud_and_inside_it_refused(tmp_path: Path) -> None:
    strangers = {"criterion.weight": torch.ones(4), "aux.scale": torch.ones(1)}
    checkpoint = loaded(tmp_path, {**under("model."), **strangers})
    assert is_good(checkpoint)
    assert checkpoint.notes == ("ignored 2 tensors that are no part of the network (criterion.weight, aux.scale)",)
    with pytest.raises(CheckpointError, match=r"1 unexpected \(features\.3\.scale\)"):
        loaded(tmp_path, {**under("model."), "model.features.3.scale": torch.ones(1)})


@pytest.mark.parametrize(
    ("content", "taken"),
    [
        ({"model": BAD, "model_ema": GOOD}, "model_ema"),
        ({"state_dict": BAD, "ema": {"decay": 0.9, "shadow": GOOD}}, "ema.shadow"),
        ({"state_dict": {**under("model.", BAD), **under("ema_model.module.")}}, "state_dict.ema_model.module"),
        ({"student": GOOD, "teacher": BAD}, "student"),
        ({"teacher": BAD, "student": GOOD}, "student"),
        ({"teacher": WORSE, "student": BAD, "ema": GOOD}, "ema"),
        ({**under("", BAD), **under("ema.")}, "ema"),
    ],
)
def test_averaged_weights_are_preferred_and_the_choice_is_told(tmp_path: Path, content: object, taken: str) -> None:
    checkpoint = loaded(tmp_path, content)
    assert is_good(checkpoint)
    (note,) = checkpoint.notes
    assert f"took {taken}; --weights chooses" in note


def test_weights_are_chosen_by_name_or_by_whole_parts_of_it(tmp_path: Path) -> None:
    content = {"student": {"module": BAD}, "teacher": GOOD, "ema": WORSE}
    assert is_good(loaded(tmp_path, content, "teacher"))
    assert loaded(tmp_path, content, "student").notes == ()
    assert is_good(loaded(tmp_path, {"state_dict_ema": BAD, "state_dict": GOOD}, "state_dict"))
    with pytest.raises(UsageError, match=r"--weights teach names no network.*teacher, ema, student\.module"):
        loaded(tmp_path, content, "teach")
    with pytest.raises(UsageError, match="names several networks"):
        loaded(tmp_path, {"a": {"x": GOOD, "y": BAD}}, "a")


def test_the_same_tensors_named_twice_are_one_network(tmp_path: Path) -> None:
    assert loaded(tmp_path, {"state_dict": GOOD, "best": GOOD}).notes == ()


def test_a_head_beside_the_trunk_is_the_classifier(tmp_path: Path) -> None:
    for path in ("head.fc", "fc", "model.classifier.1", "cls_head"):
        content = {**{f"backbone.{name}": each for name, each in TRUNK.items()}, **under(f"{path}.", HEAD)}
        assert is_good(loaded(tmp_path, {"state_dict": content}))


def test_flat_shards_are_told(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="FULL_STATE_DICT"):
        loaded(tmp_path, {"model": {"_fsdp_wrapped_module._flat_param": torch.ones(100)}})
