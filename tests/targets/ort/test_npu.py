"""The graph for NPUs: the same integers as the other INT8 graphs, in operators that their compilers take."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from rexnet_export.pipeline.artifact.target import Source
from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.records import Precision
from rexnet_export.quantization.scheme.insert_qdq import Integers, insert_qdq
from rexnet_export.quantization.table.table import QuantTable
from rexnet_export.targets.ort.npu import npu_graph
from rexnet_export.targets.ort.target import Ort

type Sources = Mapping[Precision, Source]


@pytest.fixture(scope="module")
def float_model(sources: Sources) -> onnx.ModelProto:
    return onnx.load(sources["int8"].float_onnx.path)


@pytest.fixture(scope="module")
def table(sources: Sources) -> QuantTable:
    found = sources["int8"].table
    assert found
    return found


def node_by_node(model: onnx.ModelProto, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The logits as the graph says them, without ONNX Runtime's fusions."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return np.concatenate([session.run(["logits"], {"image": image[None]})[0] for image in images])


@pytest.mark.parametrize("integers", ["uint8", "int8"])
def test_it_gives_the_logits_of_the_plain_graph_digit_for_digit(
    integers: Integers, float_model: onnx.ModelProto, table: QuantTable, images: NDArray[np.uint8]
) -> None:
    extremes = np.stack([np.zeros_like(images[0]), np.full_like(images[0], 255)])
    every = np.concatenate([images[:4], extremes])
    plain = node_by_node(insert_qdq(float_model, table, integers), every)
    np.testing.assert_array_equal(node_by_node(npu_graph(float_model, table, integers), every), plain)


def test_every_operator_stands_between_quantize_and_dequantize(float_model: onnx.ModelProto, table: QuantTable) -> None:
    graph = npu_graph(float_model, table).graph
    made = {name: node.op_type for node in graph.node for name in node.output}
    read = Counter[str]()
    for node in graph.node:
        if node.op_type in {"QuantizeLinear", "DequantizeLinear", "Transpose"}:
            continue
        clamp = node.op_type in {"Clip", "Relu"}  # compilers fuse what computes, its clamp and QuantizeLinear
        assert (made[node.input[0]] == "DequantizeLinear") != clamp, node.name
        (reader,) = {other.op_type for other in graph.node if node.output[0] in other.input}
        assert reader == "QuantizeLinear" or (reader in {"Clip", "Relu"} and not clamp), node.name
        read[node.op_type] += 1
    before = Counter(node.op_type for node in float_model.graph.node)
    assert "Pad" not in read
    assert read["Conv"] == before["Conv"] + before["Pad"]
    assert [d.dim_value for d in graph.input[0].type.tensor_type.shape.dim] == [1, 32, 32, 3]
    assert [d.dim_value for d in graph.output[0].type.tensor_type.shape.dim] == [1, 10]


def test_the_target_writes_it_and_says_the_table_is_in_it(sources: Sources, tmp_path: Path) -> None:
    artifact = Ort().convert(sources["int8"], tmp_path, "tiny-int8")
    assert {name: file.path.name for name, file in artifact.presets.items()} == {
        "x86": "tiny-int8-x86.ort",
        "vnni": "tiny-int8-vnni.onnx",
        "npu": "tiny-int8-npu.onnx",
    }
    inspection = Ort().inspect(replace(artifact, file=artifact.presets["npu"]))
    assert inspection.coverage.float_ops == ()
    assert inspection.coverage.int8_mac_fraction == 1.0


def test_a_table_with_float_layers_has_no_such_file(sources: Sources, table: QuantTable) -> None:
    some = next(name for name, entry in table.tensors.items() if name.endswith("residual.pad"))
    islands = replace(
        table, tensors={**table.tensors, some: replace(table.tensors[some], decision="float", params=None)}
    )
    with pytest.raises(ConversionError, match=f"{some} is float in the table"):
        npu_graph(onnx.load(sources["int8"].float_onnx.path), islands)


def test_a_pad_of_anything_but_channels_is_refused(float_model: onnx.ModelProto, table: QuantTable) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(float_model)
    pads = next(t for t in model.graph.initializer if t.name.endswith("residual.pad.pads"))
    pads.CopyFrom(onnx.numpy_helper.from_array(np.array([0, 0, 1, 0, 0, 2, 0, 0], np.int64), pads.name))
    with pytest.raises(ConversionError, match="pads more than channels"):
        npu_graph(model, table)
