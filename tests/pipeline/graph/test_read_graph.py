"""A float graph from a folder that anybody may have written: ours and whole, or one line."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from depths import SHORT
from onnx import helper, numpy_helper

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.records import ModelCard, Preprocess
from rexnet_export.pipeline.graph.float_graph import write_float_onnx
from rexnet_export.pipeline.graph.read_graph import read_float_graph
from rexnet_export.pipeline.model.architecture import architecture
from rexnet_export.pipeline.model.rexnet import ReXNet

CARD = ModelCard(name="small", labels=("a", "b"), preprocess=Preprocess(size=32), checkpoint_sha256="a" * 64)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    torch.manual_seed(0)
    network = ReXNet(architecture(width=0.5, classes=2, stages=SHORT)).eval()
    return onnx.load(write_float_onnx(network, CARD, tmp_path_factory.mktemp("graph") / "small-float.onnx").path)


def read(content: bytes, folder: Path) -> ModelCard:
    path = folder / "small-float.onnx"
    path.write_bytes(content)
    found, card = read_float_graph(path, hashlib.sha256(content).hexdigest())
    assert found == content
    return card


def test_a_graph_of_ours_has_its_card(model: onnx.ModelProto, tmp_path: Path) -> None:
    assert read(model.SerializeToString(), tmp_path) == CARD


def another_operator(model: onnx.ModelProto) -> None:
    next(node for node in model.graph.node if node.op_type == "Sigmoid").op_type = "Exp"


def another_domain(model: onnx.ModelProto) -> None:
    model.graph.node[-1].domain = "com.microsoft"


def constants_elsewhere(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[-1]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")
    tensor.ClearField("raw_data")


def too_few_bytes(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[-1]
    tensor.raw_data = tensor.raw_data[:-4]


def many_nodes(model: onnx.ModelProto) -> None:
    nodes = [helper.make_node("Relu", ["logits"], [f"x{index}"]) for index in range(20_001)]
    model.graph.node.extend(nodes)


def huge_padding(model: onnx.ModelProto) -> None:
    pads = next(tensor for tensor in model.graph.initializer if tensor.name == "input.constant_channel.pads")
    pads.CopyFrom(numpy_helper.from_array(np.array([0, 0, 0, 0, 0, 2**20, 2**20, 1], np.int64), pads.name))
    del model.graph.value_info[:]


def computed_padding(model: onnx.ModelProto) -> None:
    """By as much again as its constant says: what the file says of its shapes is all that would be known of them."""
    at, pad = next((at, node) for at, node in enumerate(model.graph.node) if node.op_type == "Pad")
    model.graph.node.insert(at, helper.make_node("Add", [pad.input[1], pad.input[1]], ["pads"]))
    model.graph.node[at + 1].input[1] = "pads"


def images_elsewhere(model: onnx.ModelProto) -> None:
    """The number of images is another dimension than the first, whose size nobody would look at then."""
    model.graph.node.append(helper.make_node("Transpose", ["logits"], ["turned"], perm=[1, 0]))


def another_image(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 64
    del model.graph.value_info[:]


def more_labels(model: onnx.ModelProto) -> None:
    next(entry for entry in model.metadata_props if entry.key == "labels").value = '["a", "b", "c"]'


def no_card(model: onnx.ModelProto) -> None:
    del model.metadata_props[:]


def a_function(model: onnx.ModelProto) -> None:
    model.functions.add(name="f", domain="x")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (another_operator, "it has 'Exp'"),
        (another_domain, "it has 'Gemm'"),
        (constants_elsewhere, "its constant .* is not all in it"),
        (too_few_bytes, "its constant .* is not all in it"),
        (many_nodes, "it has .* nodes"),
        (huge_padding, "is damaged|has no shape of an image classifier's"),
        (computed_padding, "it computes how far 'input.constant_channel' pads"),
        (images_elsewhere, "'turned' has no shape of an image classifier's"),
        (another_image, r"is damaged|its image has the shape \[0, 64, 32, 3\]"),
        (more_labels, r"its logits have the shape \[0, 2\], of 3 answers"),
        (no_card, "small-float.onnx: metadata has no '"),
        (a_function, "it has functions"),
    ],
)
def test_anything_else_is_one_line(
    model: onnx.ModelProto, tmp_path: Path, spoil: Callable[[onnx.ModelProto], None], said: str
) -> None:
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    spoil(changed)
    with pytest.raises(ConversionError, match=said) as refused:
        read(changed.SerializeToString(), tmp_path)
    assert "\n" not in str(refused.value)


def test_bytes_that_are_no_graph(tmp_path: Path) -> None:
    for content in (b"", b"\xff" * 40):
        with pytest.raises(ConversionError, match=r"is no sound ONNX file|is no float graph"):
            read(content, tmp_path)


def test_a_file_that_changed_after_it_was_vouched_for(model: onnx.ModelProto, tmp_path: Path) -> None:
    path = tmp_path / "small-float.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ConversionError, match="changed while it was read"):
        read_float_graph(path, "0" * 64)
