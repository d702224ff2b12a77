"""The pooled map flattened where it lies: the same integers, and no layout changes on the way to the head."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from shared import ArtifactOf

from rexnet_export.pipeline.artifact.target import Source
from rexnet_export.pipeline.core.records import Precision
from rexnet_export.quantization.scheme.insert_qdq import insert_qdq
from rexnet_export.targets.ort.tail import flat_where_it_lies
from rexnet_export.targets.ort.target import Ort

type Images = NDArray[np.uint8]
type Sources = Mapping[Precision, Source]

ORT = Ort()


def quantized(source: Source) -> onnx.ModelProto:
    assert source.table
    return insert_qdq(onnx.load(source.float_onnx.path), source.table, "uint8")


def node_by_node(model: onnx.ModelProto, images: Images) -> NDArray[np.float32]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    found: NDArray[np.float32] = session.run(["logits"], {"image": images})[0]
    return found


def test_the_logits_are_the_same_digit_for_digit(plain_sources: Sources, images: Images) -> None:
    model = quantized(plain_sources["int8"])
    changed = flat_where_it_lies(model)
    assert len(changed.graph.node) == len(model.graph.node) + 1
    onnx.checker.check_model(changed, full_check=True)
    np.testing.assert_array_equal(node_by_node(changed, images[:4]), node_by_node(model, images[:4]))


def test_a_float_pool_is_flattened_as_it_was(plain_sources: Sources) -> None:
    model = onnx.load(plain_sources["int8"].float_onnx.path)
    assert "Flatten" in {node.op_type for node in model.graph.node}
    assert flat_where_it_lies(model) == model


@pytest.mark.parametrize(("preset", "transposes"), [("x86", 0), ("vnni", 0), ("", 1)])
def test_nothing_changes_the_layout_of_a_file_for_x86(
    preset: str, transposes: int, artifact_of: ArtifactOf, images: Images
) -> None:
    whole = artifact_of("ort", "int8", "plain")
    file = replace(whole, file=whole.presets[preset]) if preset else whole
    assert ORT.inspect(file).structure.operators.get("Transpose", 0) == transposes
    assert ORT.open(file).trace(images[:1])["pool"].shape[2:] == (1, 1)
