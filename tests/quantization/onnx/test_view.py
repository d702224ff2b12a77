"""What is read of a graph: constants at their places, and who reads what."""

from __future__ import annotations

import onnx
import pytest

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.quantization.onnx.view import attributes_of, model_sha256, view

MODEL = onnx.parser.parse_model(
    """<ir_version: 8, opset_import: ["": 18]>
    tiny (float[1, 4] x) => (float[1, 4] y) <float low = {0.0}, float high = {6.0}>
    {
        a = Clip(x, low, high)
        b = Clip(x, a)
        y = LeakyRelu<alpha = 0.5>(b)
    }"""
)


def test_constants_are_found_at_the_inputs_they_are_at() -> None:
    graph = view(MODEL)
    whole, half, _ = graph.nodes
    assert (graph.constant(whole, 1), graph.constant(whole, 2)) == (0.0, 6.0)
    assert graph.constants.keys() == {"low", "high"}
    for node, position, named in ((whole, 0, "'x'"), (half, 1, "'a'"), (half, 2, "''"), (half, 9, "''")):
        with pytest.raises(ConversionError, match=f"Clip  needs a constant as input {position}, not {named}"):
            graph.constant(node, position)


def test_consumers_and_ends_are_by_name() -> None:
    graph = view(MODEL)
    assert [node.output[0] for node in graph.consumers["x"]] == ["a", "b"]
    assert "y" not in graph.consumers
    assert (graph.inputs, graph.outputs) == ({"x"}, {"y"})
    assert attributes_of(graph.nodes[2]) == {"alpha": 0.5}
    assert attributes_of(graph.nodes[0]) == {}


def test_the_digest_of_a_graph_stays_what_tables_have_written_down() -> None:
    assert model_sha256(MODEL) == "89ea35870decbb267ef7f2676cbd0887c0507605b85bb21ec639339913c98be6"
