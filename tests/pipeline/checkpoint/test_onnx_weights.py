"""ONNX and TorchScript files of a ReXNet are read for their weights where they compute one; otherwise one true line."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import cast

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from timm.models.rexnet import RexNet
from torch import Tensor, nn

from rexnet_export.pipeline.artifact.metadata import describe
from rexnet_export.pipeline.checkpoint.file import stored_checkpoint
from rexnet_export.pipeline.checkpoint.load import load_checkpoint
from rexnet_export.pipeline.core.errors import CheckpointError
from rexnet_export.pipeline.core.records import ModelCard, Preprocess, file_sha256


def lively(channels: int = 3) -> RexNet:
    torch.manual_seed(4)
    network = RexNet(width_mult=0.1, num_classes=3, in_chans=channels).eval()
    for name, tensor in network.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
        elif name.endswith(("running_mean", "bias")):
            tensor.normal_(0, 0.1)
    return network


TIMM = lively()
IMAGES = torch.randn(2, 3, 64, 64)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With every BatchNorm folded, and most names lost."""
    return graph(TIMM, IMAGES[:1], tmp_path_factory.mktemp("onnx") / "rexnet.onnx")


def graph(network: RexNet, image: Tensor, path: Path, axes: dict[int, str] | None = None) -> Path:
    given = {"input_names": ["x"], "dynamic_axes": {"x": axes}} if axes else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network, (image,), path, dynamo=False, opset_version=17, **given)
    return path


def difference(path: Path) -> Tensor:
    with torch.no_grad():
        return (load_checkpoint(path).network(IMAGES) - TIMM(IMAGES)).abs().max()


def test_an_exported_graph_gives_back_the_network(exported: Path) -> None:
    assert difference(exported) < 1e-5


@pytest.mark.parametrize("channels", [2, 5])
def test_a_graph_of_other_channels_gives_back_its_network(tmp_path: Path, channels: int) -> None:
    network, images = lively(channels), torch.randn(1, channels, 64, 64)
    loaded = load_checkpoint(graph(network, images, tmp_path / "a.onnx")).network
    with torch.no_grad():
        assert (loaded(images) - network(images)).abs().max() < 1e-5


BETWEEN: dict[str, Callable[[], nn.Module]] = {
    "ReLU": nn.ReLU,
    "ReLU6 behind a BatchNorm": lambda: nn.Sequential(nn.BatchNorm1d(7), nn.ReLU6()),
    "SiLU": nn.SiLU,
    "hardswish": nn.Hardswish,
    "tanh": nn.Tanh,
    "dropout alone": nn.Dropout,
}


def with_head(between: nn.Module, classes: int = 3) -> RexNet:
    network = lively()
    torch.manual_seed(5)
    features = cast("nn.Linear", network.head.fc).in_features
    network.head.fc = nn.Sequential(nn.Linear(features, 7), between, nn.Linear(7, classes)).eval()
    for module in network.head.fc.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=2.0)
        elif isinstance(module, nn.BatchNorm1d):
            nn.init.normal_(cast("Tensor", module.running_mean))
    return network


@pytest.mark.parametrize("name", BETWEEN)
def test_a_head_of_several_layers_is_known_by_what_it_computes(tmp_path: Path, name: str) -> None:
    network = with_head(BETWEEN[name]())
    loaded = load_checkpoint(graph(network, IMAGES[:1], tmp_path / "a.onnx"))
    with torch.no_grad():
        expected = network(IMAGES)
        assert (loaded.network(IMAGES) - expected).abs().max() < 1e-5 * expected.abs().max()
    assert not any("--head-activation" in note for note in loaded.notes)  # the graph shows it: nothing is assumed


@pytest.mark.parametrize("name", ["ReLU", "ReLU6", "SiLU", "Hardswish", "Hardtanh"])
def test_what_no_image_shows_is_told_apart(tmp_path: Path, name: str) -> None:
    """All hidden values lie where ReLU, ReLU6 and identity are the same, for every image."""
    network = with_head(getattr(nn, name)())
    first = cast("nn.Sequential", network.head.fc)[0]
    with torch.no_grad():
        first.weight.mul_(1e-4)
        first.bias.fill_(0.5)
    path = graph(network, IMAGES[:1], tmp_path / "a.onnx")
    if name == "Hardtanh":  # equal to tanh, ReLU and identity nowhere but in part
        with pytest.raises(CheckpointError, match=r"none of relu, .* fits between them"):
            load_checkpoint(path)
    else:
        assert load_checkpoint(path).network.spec.activation == name.lower()


@pytest.mark.parametrize("between", [nn.GELU, nn.LeakyReLU])
def test_a_head_with_another_activation_is_refused(tmp_path: Path, between: Callable[[], nn.Module]) -> None:
    path = graph(with_head(between()), IMAGES[:1], tmp_path / "a.onnx")
    with pytest.raises(CheckpointError, match=f"of {between.__name__}, which no network exported here") as caught:
        load_checkpoint(path)
    assert str(caught.value).count("\n") == 0


@pytest.mark.parametrize(("axes", "size"), [({}, (64, 96)), ({2: "height", 3: "width"}, None), ({2: "height"}, None)])
def test_a_fixed_input_states_the_size_of_its_images(
    tmp_path: Path, axes: dict[int, str], size: tuple[int, int] | None
) -> None:
    path = graph(TIMM, torch.zeros(1, 3, 64, 96), tmp_path / "a.onnx", axes)
    stated = load_checkpoint(path).stated.preprocess
    assert (stated.size, stated.sources) == (size, {"size": "graph"} if size else {})


OURS = Preprocess(size=(64, 96), crop_mode="squash", crop_ratio=0.5, mean=(0, 0.25, 0), std=(1, 2, 1))


def by_us(model: onnx.ModelProto, **more: str) -> None:
    """With the metadata that an export writes, of a preprocessing whose interpolation was assumed."""
    sources = dict.fromkeys(asdict(OURS), "flags") | {"interpolation": "assumed"}
    card = ModelCard(
        name="a", labels=("a", "b", "c"), preprocess=OURS, preprocess_source=sources, checkpoint_sha256="0" * 64
    )
    helper.set_model_props(model, {**describe(card, precision="fp32"), **more})


def test_a_graph_of_ours_states_all_that_it_was_made_with(tmp_path: Path) -> None:
    path = graph(TIMM, torch.zeros(1, 3, 64, 96), tmp_path / "a.onnx")
    loaded = load_checkpoint(changed(by_us, path, tmp_path))
    stated = loaded.stated.preprocess
    assert loaded.labels == ("a", "b", "c")
    assert (stated.size, stated.mean, stated.std) == ((64, 96), (0, 0.25, 0), (1, 2, 1))
    assert (stated.crop_mode, stated.crop_ratio, stated.interpolation) == ("squash", 0.5, None)
    assert stated.sources == dict.fromkeys(("size", "mean", "std", "crop_mode", "crop_ratio"), "metadata")


@pytest.mark.parametrize(
    "wrong", [{"labels": "[1]"}, {"mean": "{"}, {"crop_mode": "?"}, {"crop_ratio": "-3"}, {"preprocess_source": "{"}]
)
def test_metadata_of_ours_that_cannot_be_is_one_line(exported: Path, tmp_path: Path, wrong: dict[str, str]) -> None:
    with pytest.raises(CheckpointError, match=next(iter(wrong))) as caught:
        load_checkpoint(changed(lambda model: by_us(model, **wrong), exported, tmp_path))
    assert "\n" not in str(caught.value)


def test_the_digest_covers_weights_beside_the_graph(exported: Path, tmp_path: Path) -> None:
    path, digests = tmp_path / "graph.onnx", []
    for factor in (1.0, 1.001):
        model = onnx.load(exported)
        bias = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 1 and tensor.dims[0] > 1)
        bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) * np.float32(factor), bias.name))
        (tmp_path / "weights.bin").unlink(missing_ok=True)
        onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
        loaded = load_checkpoint(path)
        digests.append(loaded.file.sha256)
        assert stored_checkpoint(path) == loaded.file
        assert loaded.file.bytes == path.stat().st_size + (tmp_path / "weights.bin").stat().st_size
    assert digests[0] != digests[1] != file_sha256(path)


def test_weights_beside_the_graph_are_read_and_nothing_else(exported: Path, tmp_path: Path) -> None:
    model = onnx.load(exported)
    path = tmp_path / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert difference(path) < 1e-5
    (tmp_path / "weights.bin").rename(tmp_path.parent / "outside.bin")
    (tmp_path / "weights.bin").symlink_to(tmp_path.parent / "outside.bin")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(path)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(CheckpointError, match="with weights beside it, which cannot be read"):
        load_checkpoint(path)


def changed(change: Callable[[onnx.ModelProto], None], source: Path, folder: Path) -> Path:
    model = onnx.load(source)
    change(model)
    (folder / "changed.onnx").write_bytes(model.SerializeToString())
    return folder / "changed.onnx"


def another_activation(model: onnx.ModelProto) -> None:
    next(node for node in model.graph.node if node.op_type == "Sigmoid").op_type = "Relu"


def no_limit_that_an_ordinary_image_would_show(model: onnx.ModelProto) -> None:
    clamp = [node for node in model.graph.node if node.op_type == "Clip"][-1]
    clamp.op_type = "Relu"
    del clamp.input[1:]


def another_operator(model: onnx.ModelProto) -> None:
    next(node for node in model.graph.node if node.op_type == "Relu").op_type = "Sin"


def an_endless_pad(model: onnx.ModelProto) -> None:
    pads = numpy_helper.from_array(torch.tensor([0, 0, 2**40, 2**40, 0, 0, 0, 0]).numpy(), "pads")
    model.graph.initializer.append(pads)
    first = model.graph.node[0]
    model.graph.node.insert(0, helper.make_node("Pad", [model.graph.input[0].name, "pads"], ["padded"]))
    for node in [first, *model.graph.node]:
        if node.op_type == "Conv" and node.input[0] == model.graph.input[0].name:
            node.input[0] = "padded"


def no_classifier(model: onnx.ModelProto) -> None:
    gemm = model.graph.node.pop()
    model.graph.output[0].name = gemm.input[0]


def a_large_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 2**40


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (another_activation, "computes something else than the ReXNet its weights make"),
        (no_limit_that_an_ordinary_image_would_show, "computes something else than the ReXNet its weights make"),
        (another_operator, "operator Sin"),
        (an_endless_pad, "unusual Pad"),
        (no_classifier, "no layers stand behind the features"),
        (a_large_input, "64 to 384 pixels"),
        (lambda model: model.graph.initializer.pop(), "computed later, or never"),
    ],
)
def test_a_graph_that_is_no_rexnet_is_refused(
    exported: Path, tmp_path: Path, change: Callable[[onnx.ModelProto], None], reason: str
) -> None:
    with pytest.raises(CheckpointError, match=reason) as caught:
        load_checkpoint(changed(change, exported, tmp_path))
    assert str(caught.value).isprintable()


def test_a_cut_file_is_refused(exported: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.onnx").write_bytes(exported.read_bytes()[:-1000])
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path / "cut.onnx")


def test_a_traced_program_is_read_by_its_modules_and_a_frozen_one_refused(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(TIMM, IMAGES[:1])
        traced.save(tmp_path / "traced.pt")
        torch.jit.freeze(traced).save(tmp_path / "frozen.pt")
    assert difference(tmp_path / "traced.pt") == 0
    with pytest.raises(CheckpointError, match="TorchScript program whose weights lost their names"):
        load_checkpoint(tmp_path / "frozen.pt")
