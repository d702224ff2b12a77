"""Names and shapes alone tell whose checkpoint it is and which network it holds."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from itertools import accumulate
from math import ceil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from timm.models.rexnet import RexNet
from tiny_checkpoints import randomized, same_state, tiny, written
from torch import Tensor, nn

from rexnet_export.pipeline.checkpoint.key_formats import with_own_channels
from rexnet_export.pipeline.checkpoint.load import load_checkpoint, save_checkpoint
from rexnet_export.pipeline.core.errors import CheckpointError
from rexnet_export.pipeline.model.architecture import Architecture, architecture
from rexnet_export.pipeline.model.rexnet import ReXNet
from rexnet_export.pipeline.pickles.stored_tensor import StoredTensor

IMAGES = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))


class Squeeze(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        middle = channels // 12
        self.fc = nn.Sequential(
            nn.Conv2d(channels, middle, 1),
            nn.BatchNorm2d(middle),
            nn.ReLU(),
            nn.Conv2d(middle, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.fc(x.mean((2, 3), keepdim=True))


class Bottleneck(nn.Module):
    def __init__(self, inputs: int, outputs: int, factor: int, stride: int, *, squeeze: bool, lite: bool) -> None:
        super().__init__()
        wide = inputs * factor
        layers: list[nn.Module] = []
        if factor > 1:
            layers += [*conv_bn(inputs, wide), nn.ReLU6() if lite else nn.SiLU()]
        layers += conv_bn(wide, wide, 3, stride, groups=wide)
        layers += [Squeeze(wide)] if squeeze else []
        self.out = nn.Sequential(*layers, nn.ReLU6(), *conv_bn(wide, outputs))
        self.added = inputs if stride == 1 and inputs <= outputs else 0

    def forward(self, x: Tensor) -> Tensor:
        y = self.out(x).clone()
        if self.added:
            y[:, : self.added] += x
        return y


def conv_bn(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs)]


def eights(channels: int) -> int:
    nearest = max(8, (channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


class Official(nn.Module):
    """The authors' module tree, written from its description and not from our definition."""

    def __init__(
        self, width: float, classes: int, *, lite: bool = False, use_se: bool = True, depth: float = 1.0
    ) -> None:
        super().__init__()
        low = min(width, 1)
        layers = [ceil(blocks * depth) for blocks in (1, 2, 2, 3, 3, 5)]
        total = sum(layers)
        steps = [16 / low] + [164 / (total - 1) if lite else 180 / total] * (total - 1)
        planes = [round(plane * width) for plane in accumulate(steps)]
        stem = round(32 / low * width)
        if lite:
            planes, stem = [eights(channels) for channels in planes], eights(stem)
        penultimate = 1280 if lite and width <= 1 else int(1280 * width)
        firsts = {sum(layers[:stage]): stride for stage, stride in enumerate((1, 2, 2, 2, 1, 2))}
        strides = [firsts.get(block, 1) for block in range(total)]
        gated = layers[0] + layers[1] if use_se and not lite else total
        blocks = [
            Bottleneck(i, o, 1 if k < layers[0] else 6, s, squeeze=k >= gated, lite=lite)
            for k, (i, o, s) in enumerate(zip([stem, *planes], planes, strides, strict=False))
        ]
        act = nn.ReLU6() if lite else nn.SiLU()
        self.features = nn.Sequential(
            *conv_bn(3, stem, 3, 2), act, *blocks, *conv_bn(planes[-1], penultimate), act, nn.AdaptiveAvgPool2d(1)
        )
        if lite:
            neck = [nn.Conv2d(penultimate, 1024, 1), nn.BatchNorm2d(1024), act, nn.Dropout(0.2)]
            self.output = nn.Sequential(*neck, nn.Conv2d(1024, classes, 1))
        else:
            self.output = nn.Sequential(nn.Dropout(0.2), nn.Conv2d(penultimate, classes, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.features(x)).flatten(1)


@pytest.mark.parametrize(
    ("width", "options", "name"),
    [
        (1.0, {}, "rexnet_100"),
        (0.5, {}, "rexnet_050"),
        (1.06, {}, "rexnet_106"),  # the authors truncate the penultimate width to 1356 where timm rounds to 1357
        (0.6, {"use_se": False}, "rexnet_060_nose"),
        (1.0, {"lite": True}, "rexnet_lite_100"),
        (1.3, {"lite": True}, "rexnet_lite_130"),
        (0.5, {"depth": 0.2}, "rexnet_050"),
        (0.4, {"depth": 1.1}, "rexnet_040"),
        (1.0, {"lite": True, "depth": 0.2}, "rexnet_lite_100"),
    ],
)
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_the_authors_files_load_by_position(
    tmp_path: Path, width: float, options: Mapping[str, Any], name: str, suffix: str
) -> None:
    official = randomized(Official(width, 7, **options))
    path = tmp_path / f"weights.{suffix}"
    if suffix == "pth":
        written(path, official.state_dict())
    else:
        save_file(official.state_dict(), path)  # sorts by name: the positions must not depend on the file's order
    loaded = load_checkpoint(path)
    assert loaded.network.spec.name == name
    assert loaded.network.spec.classes == 7
    assert loaded.metadata["keys"] == "clovaai"
    assert (loaded.labels, loaded.preprocess) == (None, None)
    positional = zip(official.state_dict().values(), loaded.network.state_dict().values(), strict=True)
    assert all(torch.equal(theirs.reshape(ours.shape), ours) for theirs, ours in positional)
    with torch.no_grad():
        assert (loaded.network(IMAGES) - official(IMAGES)).abs().max() < 1e-5


@pytest.mark.parametrize(
    "spec",
    [
        architecture("v1", 0.9, classes=10),
        architecture("v1", 0.37, classes=10),
        architecture("v1", 1.23, classes=3),
        architecture("v1", 0.4, classes=5, use_se=False),
        architecture("r", 0.5, classes=11),
        architecture("r", 1.3, classes=11, use_se=False),
        architecture("r", 3.0, classes=2),
        architecture("lite", 1.0, classes=6),
        architecture("lite", 1.5, classes=6),
        architecture("lite", 0.75, classes=6),
    ],
    ids=lambda spec: spec.name,
)
def test_variant_width_and_classes_come_from_the_shapes(tmp_path: Path, spec: Architecture) -> None:
    network = ReXNet(spec)
    loaded = load_checkpoint(written(tmp_path / "any-name", network.state_dict()))
    assert loaded.network.spec == spec
    assert not loaded.network.training
    assert same_state(loaded.network.state_dict(), network.state_dict())
    assert loaded.metadata == {"keys": "timm", "weights": "plain"}


@pytest.mark.parametrize("depth", [0.2, 0.6, 1.1])
@pytest.mark.parametrize("options", [{}, {"ch_div": 8}, {"se_ratio": 0.0}], ids=["v1", "r", "without gates"])
def test_timms_networks_of_any_depth_load(tmp_path: Path, depth: float, options: Mapping[str, Any]) -> None:
    theirs = randomized(RexNet(num_classes=3, width_mult=0.3, depth_mult=depth, **options))
    loaded = load_checkpoint(written(tmp_path / "deep.pth", theirs.state_dict()))
    blocks = len(theirs.features) - 1
    assert len(loaded.network.spec.blocks) == blocks
    assert loaded.network.spec.width == 0.3
    (note,) = loaded.notes
    assert note.startswith(f"{blocks} blocks where a published ReXNet has 16: read as timm's depth_mult makes them")
    assert f"strides {' '.join(str(block.conv_dw.conv.stride[0]) for block in theirs.features[:-1])}," in note
    with torch.no_grad():
        assert (loaded.network(IMAGES) - theirs(IMAGES)).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"final_chs": 200}, "rexnet_033_custom"),
        ({"initial_chs": 24}, "rexnetr_035_custom"),
        ({"se_ratio": 0.25}, "rexnet_030_custom"),
        ({"ch_div": 4}, "rexnetr_030_custom"),
        ({"width_mult": 7.0, "depth_mult": 0.2}, None),
    ],
)
def test_timms_networks_of_other_channels_load(tmp_path: Path, options: Mapping[str, Any], name: str | None) -> None:
    theirs = randomized(RexNet(**{"num_classes": 3, "width_mult": 0.3, **options}))
    loaded = load_checkpoint(written(tmp_path / "wide.pth", theirs.state_dict()))
    assert name is None or loaded.network.spec.name == name
    assert any("taken as they are" in note for note in loaded.notes)
    with torch.no_grad():
        expected = theirs(IMAGES)
        assert (loaded.network(IMAGES) - expected).abs().max() < 1e-5 * expected.abs().max()
    save_checkpoint(
        tmp_path / "ours.safetensors", loaded.network, labels=None, preprocess=None, metadata={}, half=False
    )
    assert load_checkpoint(tmp_path / "ours.safetensors").network.spec == loaded.network.spec


def inside(state: dict[str, Tensor]) -> Tensor:
    """The channels inside the sixth block, by number."""
    return torch.arange(state["features.5.conv_dw.conv.weight"].shape[0])


def pruned(state: dict[str, Tensor], kept: Tensor) -> dict[str, Tensor]:
    """Only some channels inside a block, in the expansion, the depthwise layer, the gate and the projection."""
    for name in [name for name in state if name.startswith("features.5.") and state[name].ndim]:
        if name.startswith(("features.5.conv_exp.", "features.5.conv_dw.", "features.5.se.fc2.")):
            state[name] = state[name][kept]
        elif name in {"features.5.conv_pwl.conv.weight", "features.5.se.fc1.weight"}:
            state[name] = state[name][:, kept]
    return state


@pytest.mark.parametrize("as_many_as_it_gets", [False, True])
def test_a_pruned_network_loads(tmp_path: Path, *, as_many_as_it_gets: bool) -> None:
    state = tiny().state_dict()
    given = state["features.5.conv_exp.conv.weight"].shape[1]
    kept = inside(state) < given if as_many_as_it_gets else inside(state) % 3 > 0
    loaded = load_checkpoint(written(tmp_path / "pruned.pth", pruned(state, kept)))
    assert not any("unlike there" in note for note in loaded.notes)
    assert loaded.network.spec.blocks[5].expanded == int(kept.sum())
    assert loaded.network.spec.name == "rexnet_010_custom"
    with torch.no_grad():
        found = loaded.network.eval()(IMAGES)
        whole = tiny()
        projection = whole.get_submodule("features.5.conv_pwl.conv")
        projection.weight[:, ~kept] = 0
        squeeze = whole.get_submodule("features.5.se.fc1")
        squeeze.weight[:, ~kept] = 0
        assert (found - whole(IMAGES)).abs().max() < 1e-5


def test_a_block_without_channels_is_refused(tmp_path: Path) -> None:
    state = tiny().state_dict()
    with pytest.raises(CheckpointError, match="is no known ReXNet; nearest is rexnet_010"):
        load_checkpoint(written(tmp_path / "empty.pth", pruned(state, inside(state) < 0)))


def test_channels_beyond_what_anybody_trained_are_not_taken() -> None:
    """Tensors of a file may share their numbers, so that a small one would take all memory."""

    def unread() -> Tensor:
        raise AssertionError

    def with_last(outputs: int) -> dict[str, StoredTensor]:
        shapes = {name: tensor.shape for name, tensor in tiny().state_dict().items()}
        shapes["features.16.conv.weight"] = torch.Size((outputs, 2**10, 1, 1))
        return {name: StoredTensor(shape=shape, dtype=torch.float32, read=unread) for name, shape in shapes.items()}

    spec = tiny().spec
    assert with_own_channels(spec, with_last(2**18)) is not None
    assert with_own_channels(spec, with_last(2**19)) is None


def test_a_shortcut_that_only_channel_counts_tell_of_is_named(tmp_path: Path) -> None:
    """With its stem cut to as few channels as the first block has, a network may have been made without one there."""
    state = tiny().state_dict()
    few, stem = (state[f"{name}.weight"].shape[0] for name in ("features.0.conv_pwl.conv", "stem.conv"))
    for name in [name for name in state if name.startswith(("stem.", "features.0.conv_dw.")) and state[name].ndim]:
        state[name] = state[name][:few]
    state["features.0.conv_pwl.conv.weight"] = state["features.0.conv_pwl.conv.weight"][:, :few]
    assert few < stem
    (note,) = load_checkpoint(written(tmp_path / "cut.pth", state)).notes
    assert note.endswith(
        "; unlike there features.0 adds its input, as timm decides by channel counts and no tensor shows"
    )


def test_a_number_of_blocks_that_no_depth_gives_is_refused(tmp_path: Path) -> None:
    state = RexNet(num_classes=3, width_mult=0.3, depth_mult=0.5).state_dict()
    one_more = {name.replace("features.9.", "features.10."): tensor for name, tensor in state.items() if ".9." in name}
    with pytest.raises(CheckpointError, match="is no known ReXNet; nearest is rexnet_"):
        load_checkpoint(written(tmp_path / "eleven.pth", {**state, **one_more}))


def test_the_rounder_width_wins_where_neighbours_are_the_same_network(tmp_path: Path) -> None:
    assert architecture("lite", 0.74).blocks == architecture("lite", 0.75).blocks
    network = ReXNet(architecture("lite", 0.74))
    assert load_checkpoint(written(tmp_path / "lite.pth", network.state_dict())).network.spec.width == 0.75


def prefixed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


@pytest.mark.parametrize(
    ("wrap", "weights"),
    [
        (lambda good, _: {"state_dict": good, "epoch": 3}, "state_dict"),
        (lambda good, _: {"model": good, "optimizer": {"state": {}}}, "model"),
        (lambda good, _: prefixed(good, "module."), "plain"),
        (lambda good, _: {"state_dict": prefixed(good, "module._orig_mod.")}, "state_dict"),
        (lambda good, bad: {"state_dict": bad, "state_dict_ema": good}, "state_dict_ema"),
        (lambda good, bad: {"model": bad, "model_ema": {"module": good, "decay": 0.9}}, "model_ema.module"),
        (
            lambda good, bad: {"model": bad, "model_ema": {**prefixed(good, "module."), "n_averaged": torch.tensor(3)}},
            "model_ema",
        ),
        (lambda good, _: {"state_dict": good, "state_dict_ema": None, "ema": {"decay": 0.9}}, "state_dict"),
        (lambda good, _: {"state_dict": good, "args": argparse.Namespace(lr=0.1)}, "state_dict"),
    ],
)
def test_wrapped_dicts_are_unwrapped_and_averaged_weights_preferred(
    tmp_path: Path, wrap: Callable[[dict[str, Tensor], dict[str, Tensor]], object], weights: str
) -> None:
    good, bad = tiny().state_dict(), tiny(seed=9).state_dict()
    loaded = load_checkpoint(written(tmp_path / "wrapped.pth", wrap(good, bad)))
    assert same_state(loaded.network.state_dict(), good)
    assert loaded.metadata["weights"] == weights


def test_half_precision_is_widened_and_counters_may_be_absent(tmp_path: Path) -> None:
    state = {n: t.half() for n, t in tiny().state_dict().items() if t.is_floating_point()}
    loaded = load_checkpoint(written(tmp_path / "half.pth", state))
    found = loaded.network.state_dict()
    assert {t.dtype for n, t in found.items() if "num_batches" not in n} == {torch.float32}
    assert all(torch.equal(found[name], tensor.float()) for name, tensor in state.items())


def test_files_before_the_zip_format_load(tmp_path: Path) -> None:
    network = tiny()
    torch.save(network.state_dict(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert same_state(load_checkpoint(tmp_path / "old.pth").network.state_dict(), network.state_dict())


def test_a_damaged_official_file_is_reported_in_our_names(tmp_path: Path) -> None:
    state = Official(1.0, 7).state_dict()
    del state["features.6.out.5.fc.3.bias"]
    nearest = r"nearest is rexnet_100: 412 tensors match, 1 missing \(features\.3\.se\.fc2\.bias\), 0 unexpected"
    with pytest.raises(CheckpointError, match=nearest):
        load_checkpoint(written(tmp_path / "official.pth", state))
