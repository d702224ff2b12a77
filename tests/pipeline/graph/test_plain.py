"""The float graph that other converters read."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from depths import SHORT
from lively_networks import lively

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.records import ModelCard, Preprocess
from rexnet_export.pipeline.graph import plain
from rexnet_export.pipeline.graph.float_graph import write_float_onnx
from rexnet_export.pipeline.graph.plain import write_plain_onnx
from rexnet_export.pipeline.model.architecture import architecture
from rexnet_export.pipeline.model.rexnet import ReXNet

PREPROCESS = Preprocess(size=(32, 48), mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.5))


@pytest.fixture(scope="module")
def network() -> ReXNet:
    torch.manual_seed(3)
    return lively(ReXNet(architecture(width=0.5, classes=5, stages=SHORT)), replace(PREPROCESS, size=32)).eval()


@pytest.fixture(scope="module")
def float_onnx(network: ReXNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    card = ModelCard(name="tiny", labels=tuple("abcde"), preprocess=PREPROCESS, checkpoint_sha256="0" * 64)
    return write_float_onnx(network, card, tmp_path_factory.mktemp("plain") / "tiny.onnx").path


@pytest.fixture(scope="module")
def images() -> np.typing.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (3, 32, 48, 3), dtype=np.uint8)


def test_it_takes_what_the_torch_network_takes(
    network: ReXNet, float_onnx: Path, images: np.typing.NDArray[np.uint8], tmp_path: Path
) -> None:
    stored = write_plain_onnx(float_onnx, PREPROCESS, images, tmp_path / "plain.onnx")
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (PREPROCESS.mean, PREPROCESS.std))
    pixels = (torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - mean) / std
    with torch.inference_mode():
        expected = network(pixels).numpy()
    session = onnxruntime.InferenceSession(stored.path)
    (found,) = session.run(["logits"], {"pixels": pixels.numpy()})
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_it_has_no_image_front(float_onnx: Path, images: np.typing.NDArray[np.uint8], tmp_path: Path) -> None:
    model = onnx.load(write_plain_onnx(float_onnx, PREPROCESS, images, tmp_path / "plain.onnx").path)
    (pixels,) = model.graph.input
    sizes = pixels.type.tensor_type.shape.dim
    assert (pixels.name, pixels.type.tensor_type.elem_type) == ("pixels", onnx.TensorProto.FLOAT)
    assert [size.dim_param or size.dim_value for size in sizes] == ["batch", 3, 32, 48]
    first = model.graph.node[0]
    assert (first.op_type, first.input[0]) == ("Conv", "pixels")
    assert not {"Transpose", "DequantizeLinear"} & {node.op_type for node in model.graph.node}
    stem = next(tensor for tensor in model.graph.initializer if tensor.name == first.input[1])
    assert list(stem.dims)[1:] == [3, 3, 3]


def test_a_graph_that_computes_something_else_is_refused(
    float_onnx: Path, images: np.typing.NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Preprocess(size=(32, 48), mean=(0.4, 0.5, 0.6), std=(20.0, 25.0, 50.0))
    right = plain.plain_graph
    monkeypatch.setattr(plain, "plain_graph", lambda model, _: right(model, other))
    with pytest.raises(ConversionError, match="logits differ by"):
        write_plain_onnx(float_onnx, PREPROCESS, images, tmp_path / "plain.onnx")
