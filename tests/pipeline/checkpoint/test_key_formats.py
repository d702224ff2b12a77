"""Names and shapes alone tell whose checkpoint it is and which network it holds."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import cache
from itertools import accumulate
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from rexnet_export.pipeline.checkpoint.load import load_checkpoint
from rexnet_export.pipeline.core.errors import CheckpointError
from rexnet_export.pipeline.model.rexnet import Architecture, ReXNet, architecture

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

    def __init__(self, width: float, classes: int, *, lite: bool = False, use_se: bool = True) -> None:
        super().__init__()
        low = min(width, 1)
        steps = [16 / low] + [164 / 15 if lite else 180 / 16] * 15
        planes = [round(plane * width) for plane in accumulate(steps)]
        stem = round(32 / low * width)
        if lite:
            planes, stem = [eights(channels) for channels in planes], eights(stem)
        penultimate = 1280 if lite and width <= 1 else int(1280 * width)
        strides = [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1]
        blocks = [
            Bottleneck(i, o, 1 if k == 0 else 6, s, squeeze=use_se and not lite and k >= 3, lite=lite)
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


def randomized[Network: nn.Module](network: Network, seed: int = 0) -> Network:
    """Every tensor different from every other, so that no swap of two goes unseen."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in network.state_dict().items():
        if name.endswith("running_var") or (name.endswith("weight") and tensor.ndim == 1):
            tensor.uniform_(0.5, 1.5, generator=generator)
        elif name.endswith(("running_mean", "bias")):
            tensor.normal_(0, 0.1, generator=generator)
        elif tensor.is_floating_point():
            tensor.normal_(0, tensor[0].numel() ** -0.5, generator=generator)
    return network.eval()


@cache
def tiny_state(width: float, seed: int) -> dict[str, Tensor]:
    return randomized(ReXNet(architecture(width=width, classes=4)), seed).state_dict()


def tiny(width: float = 0.1, seed: int = 0) -> ReXNet:
    with torch.device("meta"):
        network = ReXNet(architecture(width=width, classes=4))
    network.load_state_dict({name: tensor.clone() for name, tensor in tiny_state(width, seed).items()}, assign=True)
    return network.eval()


def written(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def same_state(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize(
    ("width", "options", "name"),
    [
        (1.0, {}, "rexnet_100"),
        (0.5, {}, "rexnet_050"),
        (1.06, {}, "rexnet_106"),  # the authors truncate the penultimate width to 1356 where timm rounds to 1357
        (0.6, {"use_se": False}, "rexnet_060_nose"),
        (1.0, {"lite": True}, "rexnet_lite_100"),
        (1.3, {"lite": True}, "rexnet_lite_130"),
    ],
)
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_the_authors_files_load_by_position(
    tmp_path: Path, width: float, options: dict[str, bool], name: str, suffix: str
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
