"""Ranks of trained features: known ranks are found, and every layer is looked at."""

from pathlib import Path

import numpy as np
import pytest
import torch

from rexnet_export.apps.study.common.bottleneck_network import BottleneckNetwork, mobilenet_v2, save_network
from rexnet_export.apps.study.rank.trained_networks import network_ranks
from rexnet_export.pipeline.checkpoint.load import load_checkpoint, save_checkpoint
from rexnet_export.pipeline.core.progress import Silent
from rexnet_export.pipeline.core.records import Preprocess
from rexnet_export.pipeline.data.sources import batches, bundled
from rexnet_export.pipeline.model.architecture import architecture
from rexnet_export.pipeline.model.normalize import Normalize
from rexnet_export.pipeline.model.rexnet import ReXNet

PREPROCESS = Preprocess(size=32)
INDICES = list(range(70))  # more than one batch


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    network = ReXNet(architecture(width=0.25, classes=10)).eval()
    with torch.no_grad():  # two equal channels of the last block, and a third that is always zero
        for name in ("conv.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"):
            tensor = network.get_parameter(f"features.5.conv_pwl.{name}") if "running" not in name else None
            tensor = network.get_buffer(f"features.5.conv_pwl.{name}") if tensor is None else tensor
            tensor[1] = tensor[0]
        network.get_parameter("features.5.conv_pwl.bn.weight")[2] = 0
        network.get_parameter("features.5.conv_pwl.bn.bias")[2] = 0
    path = tmp_path_factory.mktemp("ranks") / "net.safetensors"
    labels = bundled("evaluation").class_names
    save_checkpoint(path, network, labels=labels, preprocess=PREPROCESS, metadata={}, half=False)
    return str(path)


def test_every_layer_and_a_known_rank(checkpoint: str) -> None:
    source = bundled("evaluation")
    found = network_ranks(checkpoint, source, INDICES, 1e-6, Silent())
    layers = {layer.layer: layer for layer in found.layers}
    assert len(layers) == 1 + 15 + 16 + 16 + 1
    assert len(found.stages) == 16
    assert found.top1 is not None
    block = layers["features.5"]
    assert block.rank == block.channels - 2
    assert block.nuclear_norm == pytest.approx(sum(block.singular_values))
    assert 1 <= block.effective_rank <= block.rank
    assert list(block.singular_values) == sorted(block.singular_values, reverse=True)


def test_singular_values_are_those_of_the_features(checkpoint: str) -> None:
    source = bundled("evaluation")
    stem = network_ranks(checkpoint, source, INDICES, 1e-3, Silent()).layers[0]
    network = load_checkpoint(Path(checkpoint)).network
    pixels = np.concatenate(list(batches(source, PREPROCESS, INDICES, 70)))
    with torch.inference_mode():
        features = network.stem(Normalize(PREPROCESS, torch.device("cpu"))(torch.from_numpy(pixels)))
    matrix = features.double().transpose(0, 1).flatten(1).numpy()
    wanted = np.linalg.svd(matrix, compute_uv=False) / matrix.shape[1] ** 0.5
    np.testing.assert_allclose(stem.singular_values, wanted, rtol=1e-5, atol=1e-7 * wanted[0])


def test_foreign_labels_give_no_accuracy(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    save_network(path, BottleneckNetwork(mobilenet_v2(0.2, 2)).eval(), PREPROCESS, ("cat", "dog"))
    found = network_ranks(str(path), bundled("evaluation"), INDICES[:8], 1e-3, Silent())
    assert found.top1 is None
    assert len(found.stages) == 17
    assert found.name == "mobilenetv2_020"
