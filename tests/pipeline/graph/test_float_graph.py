from __future__ import annotations

import copy
import dataclasses
import errno
from collections import Counter
from itertools import product
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

from rexnet_export.pipeline.artifact.metadata import card_from
from rexnet_export.pipeline.core.errors import ConversionError, DataError, UsageError
from rexnet_export.pipeline.core.records import ModelCard, Preprocess
from rexnet_export.pipeline.graph.check_parity import check_parity
from rexnet_export.pipeline.graph.float_graph import float_graph, write_float_onnx
from rexnet_export.pipeline.model.architecture import VARIANTS, Architecture, Variant, architecture
from rexnet_export.pipeline.model.rexnet import ReXNet

PREPROCESS = Preprocess(size=32)


def trained_like(spec: Architecture, seed: int = 0) -> ReXNet:
    """Random weights; BatchNorm statistics of random images, then shaken: nothing is at its neutral value.

    Statistics that fit the weights keep the image visible in the logits, so that a fault at the input shows.
    """
    torch.manual_seed(seed)
    network = ReXNet(spec).train()
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        torch.nn.init.uniform_(norm.weight, 0.5, 1.8)
        torch.nn.init.normal_(norm.bias, std=0.3)
        norm.momentum = 1.0
    with torch.no_grad():
        network(torch.randn(16, 3, 64, 64) * torch.rand(16, 3, 1, 1) + torch.randn(16, 3, 1, 1))
    for norm in norms:
        norm.running_mean += 0.1 * norm.running_var.sqrt() * torch.randn_like(norm.running_mean)
        norm.running_var *= torch.empty_like(norm.running_var).uniform_(0.7, 1.5)
    return network.eval()


def card_of(network: ReXNet, preprocess: Preprocess = PREPROCESS) -> ModelCard:
    labels = tuple(f"class {index}" for index in range(network.spec.classes))
    return ModelCard(name=network.spec.name, labels=labels, preprocess=preprocess, checkpoint_sha256="0" * 64)


def pictures(preprocess: Preprocess) -> NDArray[np.uint8]:
    """The mean colour, white, black and noise; the first two show any fault in the border padding."""
    shape = (preprocess.size, preprocess.size, 3)
    mean = np.broadcast_to(np.rint(255 * np.array(preprocess.mean)), shape)
    noise = np.random.default_rng(1).integers(0, 256, (3, *shape))
    return np.stack([mean, np.full(shape, 255), np.zeros(shape), *noise]).astype(np.uint8)


def tensor_shapes(model: onnx.ModelProto) -> dict[str, list[int | str]]:
    values = [*model.graph.input, *model.graph.value_info, *model.graph.output]
    return {
        value.name: [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim] for value in values
    }


@pytest.fixture(scope="module")
def rexnet_100() -> ReXNet:
    return trained_like(architecture(classes=10))


@pytest.fixture(scope="module")
def model(rexnet_100: ReXNet) -> onnx.ModelProto:
    return float_graph(rexnet_100, PREPROCESS)


@pytest.mark.parametrize(
    ("variant", "width", "use_se"),
    [
        ("v1", 0.5, True),
        ("v1", 1.0, True),
        ("v1", 1.0, False),
        pytest.param("v1", 3.0, True, marks=pytest.mark.slow),
        ("r", 0.5, True),
        ("r", 1.3, True),
        ("r", 1.3, False),
        ("lite", 0.5, False),
        ("lite", 1.0, False),
        ("lite", 1.5, False),
    ],
)
def test_every_variant_computes_what_torch_computes(
    variant: Variant, width: float, *, use_se: bool, tmp_path: Path
) -> None:
    network = trained_like(architecture(variant, width, classes=7, use_se=use_se))
    path = tmp_path / "float.onnx"
    write_float_onnx(network, card_of(network), path)
    parity = check_parity(network, path, pictures(PREPROCESS), PREPROCESS)
    assert parity.n == parity.same_top1 == 6
    assert parity.max_abs_difference <= 2e-5 * parity.outputs["logits"].largest


@pytest.mark.parametrize(
    "preprocess",
    [
        pytest.param(Preprocess(size=64), id="imagenet"),
        pytest.param(Preprocess(size=96, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)), id="inception"),
        pytest.param(Preprocess(size=32, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)), id="none"),
        pytest.param(Preprocess(size=32, mean=(0.9, 0.1, 0.4), std=(0.05, 2.0, 0.3)), id="uneven"),
    ],
)
def test_stem_is_exact_up_to_the_border(rexnet_100: ReXNet, preprocess: Preprocess) -> None:
    model = float_graph(rexnet_100, preprocess)
    del model.graph.output[:]
    model.graph.output.extend(value for value in model.graph.value_info if value.name == "stem")
    images = pictures(preprocess)
    (actual,) = onnxruntime.InferenceSession(model.SerializeToString()).run(["stem"], {"image": images})

    normalised = (images / 255 - np.array(preprocess.mean)) / np.array(preprocess.std)
    stem = copy.deepcopy(rexnet_100.stem).double()
    with torch.inference_mode():
        expected = stem(torch.from_numpy(normalised).permute(0, 3, 1, 2)).numpy()
    error = np.abs(actual - expected).max(axis=(0, 1))
    border = np.concatenate([error[0], error[:, 0], error[-1], error[:, -1]])
    assert border.max() <= 2e-6 * np.abs(expected).max()
    assert error.max() <= 2e-6 * np.abs(expected).max()


def test_operator_census_of_rexnet_100(model: onnx.ModelProto) -> None:
    assert Counter(node.op_type for node in model.graph.node) == (
        {"Conv": 75, "Gemm": 1, "Sigmoid": 17 + 13, "Mul": 17 + 13, "Clip": 16, "Relu": 13}
        | {"GlobalAveragePool": 13 + 1, "Add": 11, "Pad": 11 + 1, "Flatten": 1, "Transpose": 1, "DequantizeLinear": 1}
    )


def test_block_with_gate_and_residual_reads_as_documented(model: onnx.ModelProto) -> None:
    written = [(node.name, node.op_type, *node.input) for node in model.graph.node if "features.4." in node.name]
    at = "features.4"
    assert written == [
        (f"{at}.expand", "Conv", "features.3.project", f"{at}.expand.weight", f"{at}.expand.bias"),
        (f"{at}.expand.sigmoid", "Sigmoid", f"{at}.expand"),
        (f"{at}.expand.silu", "Mul", f"{at}.expand", f"{at}.expand.sigmoid"),
        (f"{at}.depthwise", "Conv", f"{at}.expand.silu", f"{at}.depthwise.weight", f"{at}.depthwise.bias"),
        (f"{at}.pool", "GlobalAveragePool", f"{at}.depthwise"),
        (f"{at}.squeeze", "Conv", f"{at}.pool", f"{at}.squeeze.weight", f"{at}.squeeze.bias"),
        (f"{at}.squeeze.relu", "Relu", f"{at}.squeeze"),
        (f"{at}.excite", "Conv", f"{at}.squeeze.relu", f"{at}.excite.weight", f"{at}.excite.bias"),
        (f"{at}.gate", "Sigmoid", f"{at}.excite"),
        (f"{at}.gated", "Mul", f"{at}.depthwise", f"{at}.gate"),
        (f"{at}.relu6", "Clip", f"{at}.gated", "relu6.min", "relu6.max"),
        (f"{at}.project", "Conv", f"{at}.relu6", f"{at}.project.weight", f"{at}.project.bias"),
        (f"{at}.residual.pad", "Pad", "features.3.project", f"{at}.residual.pad.pads"),
        (f"{at}.residual", "Add", f"{at}.project", f"{at}.residual.pad"),
    ]


def test_both_ends_are_named_as_documented(model: onnx.ModelProto) -> None:
    names = [node.name for node in model.graph.node]
    first = "input.constant_channel input.nchw input stem stem.sigmoid stem.silu features.0.depthwise features.0.relu6"
    assert names[:8] == first.split()
    assert names[-6:] == ["penultimate", "penultimate.sigmoid", "penultimate.silu", "pool", "flatten", "logits"]


def test_lite_has_relu6_everywhere_and_a_neck() -> None:
    model = float_graph(trained_like(architecture("lite", 1.0, classes=3)), PREPROCESS)
    names = [node.name for node in model.graph.node]
    first = "stem stem.relu6 features.0.depthwise features.0.relu6 features.0.project features.1.expand"
    assert names[3:9] == first.split()
    assert names[-7:] == ["penultimate", "penultimate.relu6", "pool", "neck", "neck.relu6", "flatten", "logits"]
    assert not {"Sigmoid", "Relu", "Mul"} & {node.op_type for node in model.graph.node}


def test_residual_of_equal_widths_has_no_pad() -> None:
    network = trained_like(architecture("lite", 0.5, classes=3))
    model = float_graph(network, PREPROCESS)
    inputs = {node.name: list(node.input) for node in model.graph.node}
    equal = [
        index for index, block in enumerate(network.spec.blocks) if block.residual and block.inputs == block.outputs
    ]
    assert equal
    for index in equal:
        assert f"features.{index}.residual.pad" not in inputs
        assert inputs[f"features.{index}.residual"][1] == inputs[f"features.{index}.expand"][0]


def test_names_shapes_and_biases_hold_in_every_graph() -> None:
    for variant, use_se in product(VARIANTS, (True, False)):
        model = float_graph(ReXNet(architecture(variant, 0.5, classes=3, use_se=use_se)), PREPROCESS)
        nodes, shapes = model.graph.node, tensor_shapes(model)
        initializers = [tensor.name for tensor in model.graph.initializer]
        assert all(list(node.output) == [node.name] for node in nodes)
        assert len({*initializers, *(node.name for node in nodes)}) == len(initializers) + len(nodes)
        assert set(initializers) == {name for node in nodes for name in node.input} & set(initializers)
        assert shapes.keys() == {"image", *(node.name for node in nodes)}
        assert all(
            shape[0] == "batch" and all(isinstance(size, int) for size in shape[1:]) for shape in shapes.values()
        )
        for node in nodes:
            if node.op_type in {"Conv", "Gemm"}:
                assert list(node.input[1:]) == [f"{node.name}.weight", f"{node.name}.bias"]


def test_input_is_bytes_and_output_logits(model: onnx.ModelProto) -> None:
    shapes = tensor_shapes(model)
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert model.graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert (shapes["image"], shapes["input"], shapes["logits"]) == (
        ["batch", 32, 32, 3],
        ["batch", 4, 32, 32],
        ["batch", 10],
    )


def test_batch_is_free_and_images_are_independent(model: onnx.ModelProto) -> None:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    images = pictures(PREPROCESS)
    (together,) = session.run(["logits"], {"image": images})
    alone = np.concatenate([session.run(["logits"], {"image": image[None]})[0] for image in images])
    np.testing.assert_allclose(alone, together, rtol=0, atol=1e-5 * np.abs(together).max())


def test_same_network_gives_the_same_bytes(rexnet_100: ReXNet, tmp_path: Path) -> None:
    first = write_float_onnx(rexnet_100, card_of(rexnet_100), tmp_path / "first.onnx")
    second = write_float_onnx(copy.deepcopy(rexnet_100), card_of(rexnet_100), tmp_path / "second.onnx")
    assert first.sha256 == second.sha256
    assert first.path.read_bytes() == second.path.read_bytes()


def test_file_passes_the_checker_and_carries_its_card(rexnet_100: ReXNet, tmp_path: Path) -> None:
    card = card_of(rexnet_100)
    stored = write_float_onnx(rexnet_100, card, tmp_path / "float.onnx")
    onnx.checker.check_model(str(stored.path), full_check=True)
    written = onnx.load(stored.path)
    assert card_from({entry.key: entry.value for entry in written.metadata_props}) == card
    assert (written.opset_import[0].version, stored.bytes) == (18, stored.path.stat().st_size)
    assert [path.name for path in tmp_path.iterdir()] == ["float.onnx"]


@pytest.mark.parametrize(("size", "advice"), [(100, "use 96 or 112"), (20, "use 32"), (0, "use 32"), (-64, "use 32")])
def test_image_size_must_be_a_multiple_of_16(rexnet_100: ReXNet, size: int, advice: str) -> None:
    with pytest.raises(UsageError, match=rf"image size {size} .*{advice}$"):
        float_graph(rexnet_100, Preprocess(size=size))


def test_labels_must_match_the_classes(rexnet_100: ReXNet, tmp_path: Path) -> None:
    card = dataclasses.replace(card_of(rexnet_100), labels=("only one",))
    with pytest.raises(DataError, match=r"1 labels for 10 classes"):
        write_float_onnx(rexnet_100, card, tmp_path / "float.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("parameter", "value", "tensor"),
    [
        ("features.3.se.bn.running_var", -1.0, r"features\.3\.squeeze\.weight"),
        ("features.2.conv_pwl.bn.weight", 1e42, r"features\.2\.project\.weight"),
        ("head.fc.bias", float("nan"), r"logits\.bias"),
    ],
)
def test_parameters_that_fold_to_nonsense_are_named(parameter: str, value: float, tensor: str) -> None:
    network = trained_like(architecture(width=0.5, classes=3)).double()
    with torch.no_grad():
        network.state_dict(keep_vars=True)[parameter].fill_(value)
    with pytest.raises(ConversionError, match=rf"^{tensor} is not finite"):
        float_graph(network, PREPROCESS)


def test_zero_std_is_refused(rexnet_100: ReXNet) -> None:
    with pytest.raises(ConversionError, match=r"^stem\.weight is not finite"):
        float_graph(rexnet_100, Preprocess(size=32, std=(0.2, 0.0, 0.2)))


def test_full_disk_leaves_the_old_file_and_no_part(
    rexnet_100: ReXNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "float.onnx"
    path.write_bytes(b"the previous file")

    def half_written(part: Path, content: bytes) -> int:
        with part.open("wb") as stream:
            stream.write(content[:1000])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half_written)
    with pytest.raises(ConversionError, match="No space left on device; choose another --output"):
        write_float_onnx(rexnet_100, card_of(rexnet_100), path)
    assert path.read_bytes() == b"the previous file"
    assert [left.name for left in tmp_path.iterdir()] == ["float.onnx"]


def test_folding_rounds_only_once(rexnet_100: ReXNet, model: onnx.ModelProto) -> None:
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    exact = copy.deepcopy(rexnet_100.features[9].conv_pwl).double()
    scale = exact.bn.weight / torch.sqrt(exact.bn.running_var + exact.bn.eps)
    expected = (exact.conv.weight * scale[:, None, None, None]).float()
    np.testing.assert_array_equal(weights["features.9.project.weight"], expected.detach().numpy())
