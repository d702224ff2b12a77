"""Any head that amounts to one linear layer becomes it exactly; what cannot be told from a state dict is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from rexnet_export.pipeline.checkpoint.load import LoadedCheckpoint, load_checkpoint
from rexnet_export.pipeline.core.errors import CheckpointError
from rexnet_export.pipeline.model.rexnet import ReXNet, architecture

torch.manual_seed(3)
NETWORK = ReXNet(architecture(width=0.1, classes=6)).eval()
TRUNK = {f"net.{name}": each for name, each in NETWORK.state_dict().items() if not name.startswith("head.")}
OWN = {f"net.head.fc.{leaf}": each for leaf, each in NETWORK.head.fc.state_dict().items()}
FEATURES = NETWORK.head.fc.in_features
IMAGES = torch.randn(2, 3, 32, 32)


def pooled() -> Tensor:
    kept: list[Tensor] = []
    handle = NETWORK.head.fc.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0]))
    with torch.no_grad():
        NETWORK(IMAGES)
    handle.remove()
    return kept[0]


def loaded(folder: Path, tensors: dict[str, Tensor], *, headless: bool = False) -> LoadedCheckpoint:
    torch.save(tensors, folder / "a.pth")
    return load_checkpoint(folder / "a.pth", headless=headless)


def seeded(head: nn.Module) -> nn.Module:
    for module in head.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return head.eval()


@pytest.mark.parametrize(
    ("path", "head"),
    [
        ("net.head.fc", nn.Linear(FEATURES, 3)),
        ("net.head", nn.Linear(FEATURES, 3)),
        ("net.head.fc", nn.Linear(FEATURES, 3, bias=False)),
        ("net.head.fc", nn.Sequential(nn.Dropout(), nn.Linear(FEATURES, 3))),
        ("net.classifier", nn.Sequential(nn.Linear(FEATURES, 9), nn.Linear(9, 3))),
        ("head", nn.Sequential(nn.BatchNorm1d(FEATURES), nn.Dropout(), nn.Linear(FEATURES, 3))),
        ("head", nn.Sequential(nn.BatchNorm1d(FEATURES, affine=False), nn.Linear(FEATURES, 3))),
        ("fc", nn.Sequential(nn.Linear(FEATURES, 9), nn.BatchNorm1d(9), nn.Linear(9, 3))),
        ("net.head.fc", nn.Linear(FEATURES, 1)),
    ],
)
def test_heads_that_are_linear_are_folded_exactly(tmp_path: Path, path: str, head: nn.Module) -> None:
    seeded(head)
    tensors = TRUNK | {f"{path}.{name}": each for name, each in head.state_dict().items()}
    network = loaded(tmp_path, tensors).network
    with torch.no_grad():
        assert (network(IMAGES) - head(pooled())).abs().max() < 1e-5


def test_a_layer_on_the_classes_is_folded_and_told(tmp_path: Path) -> None:
    extra = nn.Linear(6, 2)
    checkpoint = loaded(tmp_path, TRUNK | OWN | {f"fc.{leaf}": each for leaf, each in extra.state_dict().items()})
    with torch.no_grad():
        assert (checkpoint.network(IMAGES) - extra(NETWORK(IMAGES))).abs().max() < 1e-5
    assert any("fc takes the 6 outputs of head.fc: folded into one layer" in note for note in checkpoint.notes)


def state(**heads: nn.Module) -> dict[str, Tensor]:
    return {f"{path}.{name}": each for path, head in heads.items() for name, each in head.state_dict().items()}


def linear(inputs: int = FEATURES, outputs: int = 3) -> nn.Linear:
    return nn.Linear(inputs, outputs)


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        (state(fc=nn.Sequential(linear(), nn.ReLU(), linear(3, 2))), r"between fc\.0 and fc\.2 there may be an activ"),
        (state(fc1=linear(), fc2=linear(3, 2)), "may be an activation"),
        (state(age=linear(), sex=linear()), r"several heads .*\(age, sex\)"),
        (OWN | state(fc=linear()), r"several heads on the 128 features \(head\.fc, fc\)"),
        (state(arcface=nn.Linear(FEATURES, 3, bias=False)), "arcface compares angles"),
        (state(fc=linear()) | {"pool.p": torch.ones(1)}, "pools with a power"),
        ({"net.head.fc.weight": torch.ones(3, 5)}, "no layer of its head takes the network's 128 features"),
        (state(fc=linear(FEATURES + 1)), "has no classifier"),
        ({}, r"has no classifier: use `rexnet-export backbone`"),
    ],
)
def test_what_cannot_be_told_exactly_is_refused(tmp_path: Path, tensors: dict[str, Tensor], reason: str) -> None:
    with pytest.raises(CheckpointError, match=reason):
        loaded(tmp_path, TRUNK | tensors)


def test_a_file_without_a_classifier_serves_a_backbone(tmp_path: Path) -> None:
    checkpoint = loaded(tmp_path, TRUNK, headless=True)
    trunk = {name: each for name, each in checkpoint.network.state_dict().items() if not name.startswith("head.")}
    assert all(torch.equal(each, TRUNK[f"net.{name}"]) for name, each in trunk.items())
    assert checkpoint.labels is None


def test_one_channel_is_seen_as_luma(tmp_path: Path) -> None:
    grey = {**TRUNK, "net.stem.conv.weight": TRUNK["net.stem.conv.weight"].sum(1, keepdim=True)}
    network = loaded(tmp_path, grey | OWN).network
    with torch.no_grad():
        image = IMAGES.mean(1, keepdim=True).expand(-1, 3, -1, -1)
        assert (network(image) - NETWORK(image)).abs().max() < 1e-5
    with pytest.raises(CheckpointError, match="takes images of 4 channels"):
        loaded(tmp_path, {**TRUNK, "net.stem.conv.weight": torch.zeros(3, 4, 3, 3)} | OWN)


def test_a_norm_that_was_folded_away_is_put_back(tmp_path: Path) -> None:
    folded = dict(TRUNK | OWN)
    for path in ("stem", "features.4.conv_pwl", "features.4.se"):
        conv, norm = ("fc1", "bn") if path.endswith("se") else ("conv", "bn")
        parts = {
            leaf: folded.pop(f"net.{path}.{norm}.{leaf}") for leaf in ("weight", "bias", "running_mean", "running_var")
        }
        folded.pop(f"net.{path}.{norm}.num_batches_tracked")
        scale = parts["weight"] / (parts["running_var"] + 1e-5).sqrt()
        bias = folded.get(f"net.{path}.{conv}.bias", torch.zeros_like(scale))
        folded[f"net.{path}.{conv}.weight"] = folded[f"net.{path}.{conv}.weight"] * scale[:, None, None, None]
        folded[f"net.{path}.{conv}.bias"] = (bias - parts["running_mean"]) * scale + parts["bias"]
    with torch.no_grad():
        assert (loaded(tmp_path, folded).network(IMAGES) - NETWORK(IMAGES)).abs().max() < 1e-5
