"""Any head that amounts to one linear layer becomes it exactly; what cannot be told from a state dict is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from depths import SHORT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from rexnet_export.pipeline.checkpoint.load import LoadedCheckpoint, load_checkpoint, save_checkpoint
from rexnet_export.pipeline.core.errors import CheckpointError, ExportError, UsageError
from rexnet_export.pipeline.core.records import Reading
from rexnet_export.pipeline.model.architecture import architecture
from rexnet_export.pipeline.model.rexnet import ReXNet

torch.manual_seed(3)
NETWORK = ReXNet(architecture(width=0.1, classes=6, stages=SHORT)).eval()
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


def loaded(folder: Path, tensors: dict[str, Tensor], **reading: object) -> LoadedCheckpoint:
    torch.save(tensors, folder / "a.pth")
    return load_checkpoint(folder / "a.pth", Reading(**reading))  # type: ignore[arg-type]


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
        (
            state(fc=nn.Sequential(linear(), nn.BatchNorm1d(3), nn.ReLU(), linear(3, 2))),
            r"between fc\.1 and fc\.3 there may be an activation.* give --head-activation",
        ),
        (state(age=linear(), sex=linear(), last=linear(3, 2)), "last may belong to any of them"),
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


TOLD = {"relu": nn.ReLU(), "relu6": nn.ReLU6(), "silu": nn.SiLU(), "hardswish": nn.Hardswish(), "tanh": nn.Tanh()}


@pytest.mark.parametrize("activation", TOLD)
def test_an_activation_that_is_told_stands_between_layers(tmp_path: Path, activation: str) -> None:
    head = nn.Sequential(linear(outputs=9), TOLD[activation], nn.Dropout(), linear(9, 7), TOLD[activation], linear(7))
    seeded(head)
    tensors = TRUNK | state(fc=head)
    checkpoint = loaded(tmp_path, tensors, head_activation=activation)
    with torch.no_grad():
        assert (checkpoint.network(IMAGES) - head(pooled())).abs().max() < 1e-6
    assert checkpoint.network.spec.hidden == (9, 7)
    assert f"{activation} stands behind fc.0, fc.3, as --head-activation says" in checkpoint.notes


WIDTHS = st.integers(1, 9)
WRAPPERS = st.sampled_from(["net.head.fc", "net.head", "net.classifier", "head", "fc", "model_head.layers"])


@st.composite
def random_heads(draw: st.DrawFn) -> tuple[str, nn.Sequential]:
    """Linear layers with the same activation behind all but the last; BatchNorm and dropout where people put them."""
    activation, layers, width = draw(st.sampled_from([*TOLD, "none"])), [], FEATURES
    if draw(st.booleans()):
        layers.append(nn.BatchNorm1d(width))
    for _ in range(draw(st.integers(0, 2))):
        layers.append(nn.Linear(width, width := draw(WIDTHS), bias=draw(st.booleans())))
        before = draw(st.booleans())
        if before:
            layers.append(nn.BatchNorm1d(width, affine=draw(st.booleans())))
        layers.append(nn.Identity() if activation == "none" else TOLD[activation])
        if not before and draw(st.booleans()):
            layers.append(nn.BatchNorm1d(width))
        if draw(st.booleans()):
            layers.append(nn.Dropout())
    layers.append(nn.Linear(width, draw(WIDTHS)))
    return activation, nn.Sequential(*layers)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(made=random_heads(), path=WRAPPERS)
def test_any_head_loads_right_when_told_and_is_asked_about_when_not(
    tmp_path: Path, made: tuple[str, nn.Sequential], path: str
) -> None:
    activation, head = made
    seeded(head)
    tensors = TRUNK | state(**{path: head})
    hidden = sum(isinstance(layer, nn.Linear) for layer in head) > 1
    with torch.no_grad():
        expected = head(pooled())
        found = loaded(tmp_path, tensors, head_activation=activation if hidden else None).network(IMAGES)
    assert (found - expected).abs().max() <= 1e-5 * max(1.0, float(expected.abs().max()))
    if hidden:
        with pytest.raises(CheckpointError, match="give --head-activation"):
            loaded(tmp_path, tensors)
    elif activation != "none":
        with pytest.raises(UsageError, match=f"--head-activation {activation}: no layers of a head of .* have room"):
            loaded(tmp_path, tensors, head_activation=activation)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_changed_state_dict_loads_right_or_is_refused_in_a_line(tmp_path: Path, data: st.DataObject) -> None:
    """Tensors dropped, renamed, reshaped or added: what loads has the trunk's tensors under their own names."""
    tensors = TRUNK | OWN
    for _ in range(data.draw(st.integers(1, 3))):
        name = data.draw(st.sampled_from(sorted(tensors)))
        other = data.draw(st.sampled_from([*sorted(tensors), "net.head.extra.weight", "fc.weight", "x.0.weight"]))
        match data.draw(st.sampled_from(["drop", "rename", "copy", "turn", "widen"])):
            case "drop":
                del tensors[name]
            case "rename":
                tensors[other] = tensors.pop(name)
            case "copy":
                tensors[other] = tensors[name]
            case "turn":
                tensors[name] = tensors[name].T.contiguous() if tensors[name].ndim == 2 else tensors[name][None]
            case "widen":
                tensors[name] = (
                    tensors[name].repeat(2, *[1] * (tensors[name].ndim - 1)) if tensors[name].ndim else tensors[name]
                )
    try:
        network = loaded(tmp_path, tensors).network
    except ExportError as error:
        assert "\n" not in str(error)  # noqa: PT017 - either way is right
        return
    trunk = {name: each for name, each in network.state_dict().items() if name.startswith(("stem.", "features."))}
    stored = {name: each for name, each in trunk.items() if not name.endswith("num_batches_tracked")}
    assert all(torch.equal(each, tensors[f"net.{name}"]) for name, each in stored.items())
    assert network(IMAGES).isfinite().all()


def test_none_between_layers_folds_them(tmp_path: Path) -> None:
    head = seeded(nn.Sequential(linear(outputs=9), nn.Dropout(), linear(9)))
    network = loaded(tmp_path, TRUNK | state(fc=head), head_activation="none").network
    with torch.no_grad():
        assert (network(IMAGES) - head(pooled())).abs().max() < 1e-6
    assert network.spec.plain


@pytest.mark.parametrize(
    "head",
    [
        nn.Sequential(linear(outputs=9), nn.BatchNorm1d(9), nn.ReLU(), nn.Dropout(), linear(9)),
        nn.Sequential(
            *(nn.BatchNorm1d(FEATURES), nn.Dropout(), linear(outputs=9), nn.ReLU()),
            *(nn.BatchNorm1d(9), nn.Dropout(), linear(9)),
        ),
    ],
)
def test_a_batchnorm_on_either_side_of_the_activation_is_folded(tmp_path: Path, head: nn.Module) -> None:
    seeded(head)
    network = loaded(tmp_path, TRUNK | state(fc=head), head_activation="relu").network
    with torch.no_grad():
        assert (network(IMAGES) - head(pooled())).abs().max() < 1e-5


def test_layers_by_name_have_the_activation_behind_their_batchnorm(tmp_path: Path) -> None:
    parts = seeded(nn.ModuleDict({"fc1": linear(outputs=9), "bn1": nn.BatchNorm1d(9), "fc2": linear(9)}))
    network = loaded(tmp_path, TRUNK | dict(parts.state_dict()), head_activation="relu").network
    with torch.no_grad():
        wanted = parts["fc2"](torch.relu(parts["bn1"](parts["fc1"](pooled()))))
        assert (network(IMAGES) - wanted).abs().max() < 1e-5


def test_several_heads_are_named_outputs_and_one_gives_the_logits(tmp_path: Path) -> None:
    age, kind = linear(outputs=1), linear(outputs=4)
    tensors = TRUNK | state(head_age=age, head_kind=kind)
    for head, expected in (
        (None, {"logits": kind, "head.head_age": age}),
        ("head_age", {"logits": age, "head.head_kind": kind}),
    ):
        checkpoint = loaded(tmp_path, tensors, head=head)
        with torch.no_grad():
            found = checkpoint.network.outputs(IMAGES)
            assert found.keys() == expected.keys()
            assert all((found[name] - layer(pooled())).abs().max() < 1e-6 for name, layer in expected.items())
        told = "the file has 2 heads (head_age: 1, head_kind: 4): the logits are those of head_kind"
        assert any(note.startswith(told) for note in checkpoint.notes) == (head is None)
    with pytest.raises(UsageError, match=r"--head size names no head of .*: choose one of head_age: 1, head_kind: 4"):
        loaded(tmp_path, tensors, head="size")


@pytest.mark.parametrize(
    ("heads", "names"),
    [
        ({"net.head.fc": 6, "fc": 3}, ["logits", "head.fc"]),
        ({"heads.type": 3, "heads.color": 2}, ["logits", "head.color"]),
        ({"heads.0": 3, "heads.1": 2}, ["logits", "head.head_1"]),
        ({"a.fc": 3, "b.fc": 2}, ["logits", "head.b"]),
    ],
)
def test_heads_are_called_by_what_their_paths_do_not_share(
    tmp_path: Path, heads: dict[str, int], names: list[str]
) -> None:
    tensors = TRUNK | state(**{path: linear(outputs=outputs) for path, outputs in heads.items()})
    network = loaded(tmp_path, tensors, head="type" if "heads.type" in heads else None).network
    assert list(network.outputs(IMAGES)) == names


def test_our_own_file_keeps_heads_names_and_activation(tmp_path: Path) -> None:
    mlp = nn.Sequential(linear(outputs=9), nn.Tanh(), linear(9, 1))
    tensors = TRUNK | state(type=mlp, kind=linear())
    first = loaded(tmp_path, tensors, head="type", head_activation="tanh").network
    path = tmp_path / "ours.safetensors"
    save_checkpoint(path, first, labels=(), preprocess=None, metadata={}, half=False)
    again = load_checkpoint(path)
    assert again.notes == ()
    assert again.labels == ()
    with pytest.raises(
        UsageError, match=r"--head kind: .*ours\.safetensors says that its logits and labels are those of"
    ):
        load_checkpoint(path, Reading(head="kind"))
    assert load_checkpoint(path, Reading(head="head_fc")).network.spec == first.spec
    with pytest.raises(UsageError, match=r"--head-activation relu: .*ours\.safetensors says tanh; leave it out"):
        load_checkpoint(path, Reading(head_activation="relu"))
    with torch.no_grad():
        for name, values in first.outputs(IMAGES).items():
            assert torch.equal(again.network.outputs(IMAGES)[name], values)


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


def test_other_channels_stay_as_they_are(tmp_path: Path) -> None:
    stem = torch.randn(32, 5, 3, 3)
    network = loaded(tmp_path, {**TRUNK, "net.stem.conv.weight": stem} | OWN).network
    assert network.spec.channels == 5
    assert torch.equal(network.stem.conv.weight, stem)
    for count in (0, 65):
        with pytest.raises(CheckpointError, match=f"takes images of {count} channels: give a network of 1 to 64"):
            loaded(tmp_path, {**TRUNK, "net.stem.conv.weight": torch.zeros(32, count, 3, 3)} | OWN)


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


@pytest.mark.parametrize("name", sorted(name for name in TRUNK if name.startswith("net.features.4.")))
def test_a_trunk_that_lost_any_one_tensor_is_refused(tmp_path: Path, name: str) -> None:
    rest = {other: tensor for other, tensor in (TRUNK | OWN).items() if other != name}
    if name.endswith("num_batches_tracked"):
        assert loaded(tmp_path, rest).network
    else:
        with pytest.raises(CheckpointError, match=f"1 missing \\({name.removeprefix('net.')}\\)"):
            loaded(tmp_path, rest)


@pytest.mark.parametrize("leaf", ["weight", "bias", "running_mean", "running_var"])
def test_a_heads_batchnorm_that_lost_any_one_tensor_is_refused(tmp_path: Path, leaf: str) -> None:
    head = state(head=seeded(nn.Sequential(nn.BatchNorm1d(FEATURES), nn.Linear(FEATURES, 3))))
    del head[f"head.0.{leaf}"]
    with pytest.raises(CheckpointError, match=r"head\.0 .* nor a whole BatchNorm"):
        loaded(tmp_path, TRUNK | head)


@pytest.mark.parametrize(
    ("modules", "named"),
    [
        ({"head": nn.Sequential(nn.LayerNorm(FEATURES), nn.Linear(FEATURES, 3))}, "head.0"),
        ({"norm": nn.LayerNorm(FEATURES), "fc": nn.Linear(FEATURES, 3)}, "norm"),
        ({"head": nn.Sequential(nn.Sequential(nn.LayerNorm(FEATURES)), nn.Linear(FEATURES, 3))}, "head.0.0"),
        ({"head": nn.Sequential(nn.Linear(FEATURES, 9), nn.PReLU(), nn.Linear(9, 3))}, "head.1"),
        ({"attention": nn.MultiheadAttention(FEATURES, 2), "fc": nn.Linear(FEATURES, 3)}, "attention"),
        ({"net.head.fc": nn.Linear(FEATURES, 9), "norm": nn.LayerNorm(9), "last": nn.Linear(9, 3)}, "norm"),
    ],
)
def test_a_module_that_may_change_what_a_head_takes_is_refused(
    tmp_path: Path, modules: dict[str, nn.Module], named: str
) -> None:
    with pytest.raises(CheckpointError, match=f": {named} .* may change what"):
        loaded(tmp_path, TRUNK | state(**modules), head_activation="relu")


@pytest.mark.parametrize("path", ["net.head.fc", "fc"])
@pytest.mark.parametrize("kept", ["weight_norm", "parametrized weight_norm", "spectral_norm", "a scale"])
def test_a_linear_layer_that_keeps_more_than_its_weight_is_named(tmp_path: Path, path: str, kept: str) -> None:
    layer = nn.Linear(FEATURES, 3)
    match kept:
        case "weight_norm":  # as torch's own, deprecated, stores it
            norms = layer.weight.detach().norm(dim=1, keepdim=True)
            head = {"weight_g": norms, "weight_v": layer.weight.detach(), "bias": layer.bias.detach()}
        case "parametrized weight_norm":
            head = nn.utils.parametrizations.weight_norm(layer).state_dict()
        case "spectral_norm":
            head = nn.utils.parametrizations.spectral_norm(layer).state_dict()
        case _:
            head = {**layer.state_dict(), "scale": torch.ones(1)}
    tensors = TRUNK | {f"{path}.{leaf}": each for leaf, each in head.items()}
    with pytest.raises(CheckpointError, match=rf"fc.* \(.*{FEATURES}\].*\) is no plain linear layer; fold"):
        loaded(tmp_path, tensors)
    if path == "fc":
        assert loaded(tmp_path, tensors, headless=True).network


def test_what_only_a_loss_needs_is_told_and_ignored(tmp_path: Path) -> None:
    checkpoint = loaded(tmp_path, TRUNK | state(fc=nn.Linear(FEATURES, 3)) | {"criterion.pos_weight": torch.ones(3)})
    assert any("criterion.pos_weight" in note for note in checkpoint.notes)
