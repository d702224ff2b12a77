from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from depths import SHORT
from numpy.typing import NDArray
from onnx import numpy_helper

from rexnet_export.pipeline.core.errors import ConversionError, DataError
from rexnet_export.pipeline.core.records import Preprocess
from rexnet_export.pipeline.graph import check_parity as checking
from rexnet_export.pipeline.graph.check_parity import check_parity
from rexnet_export.pipeline.graph.float_graph import float_graph
from rexnet_export.pipeline.graph.outputs import cut
from rexnet_export.pipeline.model.architecture import architecture
from rexnet_export.pipeline.model.backbone import Backbone
from rexnet_export.pipeline.model.rexnet import ReXNet

PREPROCESS = Preprocess(size=32)


@pytest.fixture(scope="module")
def network() -> ReXNet:
    """Random weights with BatchNorm statistics that fit them, so that the logits depend on the image."""
    torch.manual_seed(3)
    network = ReXNet(architecture(width=0.5, classes=5, stages=SHORT)).train()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        network(torch.randn(16, 3, 64, 64) * torch.rand(16, 3, 1, 1) + torch.randn(16, 3, 1, 1))
    return network.eval()


@pytest.fixture(scope="module")
def images() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), dtype=np.uint8)


def saved(model: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "float.onnx"
    onnx.save(model, path)
    return path


def edit(model: onnx.ModelProto, name: str, change: Callable[[NDArray[np.generic]], NDArray[np.generic]]) -> None:
    (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == name)
    before = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array(change(before).astype(before.dtype), name))


def drop_constant_channel(model: onnx.ModelProto) -> None:
    """The usual approximation: the mean goes into the bias, so zero padding becomes black instead of mean colour."""
    (stem,) = (tensor for tensor in model.graph.initializer if tensor.name == "stem.weight")
    offset = numpy_helper.to_array(stem)[:, 3].sum(axis=(1, 2)) * 255 / 256
    edit(model, "stem.weight", lambda weight: weight * np.float32([1, 1, 1, 0])[:, None, None])
    edit(model, "stem.bias", lambda bias: bias + offset)


def swap_red_and_blue(model: onnx.ModelProto) -> None:
    edit(model, "stem.weight", lambda weight: weight[:, [2, 1, 0, 3]])


def forget_the_gate(model: onnx.ModelProto) -> None:
    (gated,) = (node for node in model.graph.node if node.name == "features.5.gated")
    gated.input[1] = gated.input[0]


def shift_the_residual(model: onnx.ModelProto) -> None:
    edit(model, "features.4.residual.pad.pads", lambda pads: pads[[0, 5, 2, 3, 4, 1, 6, 7]])


def raise_the_clip(model: onnx.ModelProto) -> None:
    edit(model, "relu6.max", lambda _: np.float32(0.5))


def nudge_one_bias(model: onnx.ModelProto) -> None:
    edit(model, "logits.bias", lambda bias: bias + np.float32([0, 0, 1e-3, 0, 0]))


def test_equal_networks_pass_in_any_number_of_batches(
    network: ReXNet, images: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(float_graph(network, PREPROCESS), tmp_path)
    whole = check_parity(network, path, images, PREPROCESS)
    monkeypatch.setattr(checking, "PIXELS_AT_ONCE", 4 * 32 * 32)
    pieces = check_parity(network, path, images, PREPROCESS)
    assert whole.n == pieces.n == whole.same_top1 == pieces.same_top1 == 9
    assert whole.outputs["logits"].largest == pytest.approx(pieces.outputs["logits"].largest, rel=1e-5)
    assert 0 < max(whole.max_abs_difference, pieces.max_abs_difference) < 1e-5 * whole.outputs["logits"].largest


def test_memory_is_bounded_by_the_batch(
    network: ReXNet, images: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    hook = network.stem.register_forward_hook(lambda _module, inputs, _output: seen.append(len(inputs[0])))
    monkeypatch.setattr(checking, "PIXELS_AT_ONCE", 4 * 32 * 32 + 5)
    check_parity(network, saved(float_graph(network, PREPROCESS), tmp_path), images, PREPROCESS)
    hook.remove()
    assert seen == [4, 4, 1]


@pytest.mark.parametrize(
    "fault",
    [
        drop_constant_channel,
        swap_red_and_blue,
        forget_the_gate,
        shift_the_residual,
        raise_the_clip,
        nudge_one_bias,
    ],
)
def test_planted_fault_is_caught(
    fault: Callable[[onnx.ModelProto], None], network: ReXNet, images: NDArray[np.uint8], tmp_path: Path
) -> None:
    model = float_graph(network, PREPROCESS)
    fault(model)
    with pytest.raises(ConversionError, match=r"float\.onnx is not the torch network: logits differ by"):
        check_parity(network, saved(model, tmp_path), images, PREPROCESS)


def test_network_in_training_mode_is_compared_in_evaluation_mode(
    network: ReXNet, images: NDArray[np.uint8], tmp_path: Path
) -> None:
    path = saved(float_graph(network, PREPROCESS), tmp_path)
    network.train()
    assert check_parity(network, path, images, PREPROCESS).same_top1 == 9
    assert not network.training


@pytest.mark.parametrize(
    ("expected", "actual", "passes"),
    [
        pytest.param([[1.0, 1.0 - 1e-6, -2.0]], [[1.0 - 1e-6, 1.0, -2.0]], True, id="tie broken either way"),
        pytest.param(
            [[1.0, 1.0 - 6e-5, -2.0]], [[1.0 - 4e-5, 1.0 - 2e-5, -2.0]], False, id="decided by more than noise"
        ),
        pytest.param([[1.0, 0.0, -2.0]], [[1.0, 0.0, -2.001]], False, id="logits apart, top-1 equal"),
        pytest.param([[1.0, 0.0, -2.0]], [[1.0, 0.0, -2.0001]], True, id="rounding"),
    ],
)
def test_verdict(
    expected: list[list[float]], actual: list[list[float]], *, passes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = {"logits": np.float32(expected)}, {"logits": np.float32(actual)}
    monkeypatch.setattr(checking, "_output_pairs", lambda *_: iter([pair]))
    check = (
        ReXNet(architecture(width=0.5, classes=3, stages=SHORT)),
        Path("x.onnx"),
        np.zeros((1, 32, 32, 3), np.uint8),
        PREPROCESS,
    )
    if passes:
        assert check_parity(*check).n == 1
    else:
        with pytest.raises(ConversionError):
            check_parity(*check)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((0, 32, 32, 3), np.uint8),
        np.zeros((2, 32, 32, 3), np.float32),
        np.zeros((2, 3, 32, 32), np.uint8),
        np.zeros((2, 64, 64, 3), np.uint8),
        np.zeros((32, 32, 3), np.uint8),
    ],
    ids=["none", "float", "channels first", "other size", "one image"],
)
def test_images_must_be_a_uint8_batch(wrong: NDArray[np.generic], network: ReXNet, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the model takes uint8 images \[n, 32, 32, 3\], got "):
        check_parity(network, tmp_path / "never.onnx", wrong, PREPROCESS)


def test_missing_damaged_and_other_files_get_one_line(
    network: ReXNet, images: NDArray[np.uint8], tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(b"not a model")
    other = saved(float_graph(network, Preprocess(size=64)), tmp_path)
    for path, verb in ((tmp_path / "missing.onnx", "open"), (damaged, "open"), (other, "run")):
        with pytest.raises(ConversionError, match=f"ONNX Runtime cannot {verb} {path.name}: ") as refused:
            check_parity(network, path, images, PREPROCESS)
        assert "\n" not in str(refused.value)


def test_logits_that_are_not_numbers_never_pass(network: ReXNet, images: NDArray[np.uint8], tmp_path: Path) -> None:
    model = float_graph(network, PREPROCESS)
    edit(model, "logits.bias", lambda bias: np.full_like(bias, np.nan))
    with pytest.raises(ConversionError, match="not finite"):
        check_parity(network, saved(model, tmp_path), images, PREPROCESS)


def test_other_class_count_is_told(network: ReXNet, images: NDArray[np.uint8], tmp_path: Path) -> None:
    other = ReXNet(architecture(width=0.5, classes=1, stages=SHORT)).eval()
    with pytest.raises(ConversionError, match=r"gives logits \[9, 1\], torch \[9, 5\]"):
        check_parity(network, saved(float_graph(other, PREPROCESS), tmp_path), images, PREPROCESS)


def test_a_backbone_is_judged_output_by_output(network: ReXNet, images: NDArray[np.uint8], tmp_path: Path) -> None:
    backbone = Backbone(network)
    model = cut(float_graph(network, PREPROCESS), backbone.outputs)
    equal = check_parity(backbone, saved(model, tmp_path), images, PREPROCESS)
    assert (list(equal.outputs), equal.same_top1) == ([output.name for output in backbone.outputs], None)
    assert list(equal.to_json()) == list(equal.outputs)
    coarsest = backbone.outputs[-1].name
    edit(model, f"{coarsest.rpartition('.')[0]}.project.bias", lambda bias: bias + np.float32(0.05))
    with pytest.raises(ConversionError, match=rf"is not the torch network: {coarsest} differ by"):
        check_parity(backbone, saved(model, tmp_path), images, PREPROCESS)
