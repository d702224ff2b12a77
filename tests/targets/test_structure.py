"""What files are built of, counted from files of a small network in every format and precision."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from shared import ArtifactOf

from rexnet_export.pipeline.artifact.structure import Structure
from rexnet_export.pipeline.artifact.target import Source
from rexnet_export.pipeline.core.records import Artifact, NotMeasured, Precision, stored_file
from rexnet_export.targets import TARGETS

type Sources = Mapping[Precision, Source]
CASES = [(name, precision) for name, target in TARGETS.items() for precision in target.precisions]


@pytest.fixture(scope="module")
def artifacts(artifact_of: ArtifactOf) -> Mapping[tuple[str, str], Artifact]:
    return {(name, precision): artifact_of(name, precision, "plain") for name, precision in CASES}


@pytest.mark.parametrize(("name", "precision"), CASES)
def test_tensors_are_most_of_the_file_and_islands_are_where_floats_are(
    artifacts: Mapping[tuple[str, str], Artifact], name: str, precision: Precision
) -> None:
    artifact = artifacts[name, precision]
    target = TARGETS[name]
    found = target.inspect(artifact).structure
    assert 0.4 * artifact.file.bytes < found.tensor_bytes < artifact.file.bytes
    assert (found.float_islands > 0) is bool(target.inspect(artifact).coverage.float_ops)
    if artifact.precision == "int8":
        assert found.float_islands == 0
        assert found.qdq_pairs == 0 or isinstance(found.qdq_pairs, NotMeasured)
    assert sum(found.operators.values()) > 50


def test_int8_takes_a_quarter_of_the_tensors_and_about_of_the_arena(
    artifacts: Mapping[tuple[str, str], Artifact],
) -> None:
    int8, fp32 = (TARGETS["tflite"].inspect(artifacts["tflite", precision]).structure for precision in ("int8", "fp32"))
    assert 3.0 < fp32.tensor_bytes / int8.tensor_bytes < 4.0
    assert isinstance(int8.arena_bytes, int)
    assert isinstance(fp32.arena_bytes, int)
    assert 3.0 < fp32.arena_bytes / int8.arena_bytes < 4.0


def test_the_arena_holds_the_widest_layer_and_what_it_is_made_of(
    artifacts: Mapping[tuple[str, str], Artifact], sources: Sources
) -> None:
    graph = onnx.shape_inference.infer_shapes(onnx.load(sources["fp32"].float_onnx.path)).graph
    sizes = {
        value.name: int(np.prod([d.dim_value or 1 for d in value.type.tensor_type.shape.dim]))
        for value in graph.value_info
    }
    widest = max(
        sizes[node.input[0]] + sizes[node.output[0]]
        for node in graph.node
        if node.input[0] in sizes and node.output[0] in sizes
    )
    found = TARGETS["tflite"].inspect(artifacts["tflite", "int8"]).structure
    assert isinstance(found.arena_bytes, int)
    assert widest <= found.arena_bytes < 4 * widest


def test_who_does_not_say_its_memory_says_why(artifacts: Mapping[tuple[str, str], Artifact]) -> None:
    for name in ("ort", "coreml", "gpu"):
        found: Structure = TARGETS[name].inspect(artifacts[name, "fp32"]).structure
        assert isinstance(found.arena_bytes, NotMeasured)
        assert found.arena_bytes.reason


def test_a_layer_left_in_float_is_an_island_with_its_conversions(sources: Sources, tmp_path: Path) -> None:
    source = sources["int8"]
    assert source.qdq_onnx is not None
    model = onnx.load(source.qdq_onnx.path)
    kept = next(node for node in model.graph.node if node.op_type == "Sigmoid")
    quantize = next(node for node in model.graph.node if kept.output[0] in node.input)
    dequantize = next(node for node in model.graph.node if quantize.output[0] in node.input)
    for node in model.graph.node:
        for position, name in enumerate(node.input):
            if name == dequantize.output[0]:
                node.input[position] = kept.output[0]
    model.graph.node.remove(quantize)
    model.graph.node.remove(dequantize)
    path = tmp_path / "island.onnx"
    onnx.save(model, path)
    found = TARGETS["ort"].inspect(Artifact(target="ort", precision="int8", file=stored_file(path))).structure
    assert found.float_islands >= 1
    assert found.qdq_pairs != 0
