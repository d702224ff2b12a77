from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import onnx
import pytest

from rexnet_export.quantization.onnx import partial_run as subject
from rexnet_export.quantization.onnx import simulate
from rexnet_export.quantization.onnx.partial_run import Runner, Walk, necks, part
from rexnet_export.quantization.onnx.simulate import run
from rexnet_export.quantization.scheme.insert_qdq import insert_qdq


@pytest.mark.parametrize("quantized", [False, True])
def test_pieces_give_what_the_whole_gives(either: SimpleNamespace, *, quantized: bool) -> None:
    model = insert_qdq(either.model, either.table, "uint8") if quantized else either.model
    walk = Walk(model, either.images)
    nodes = len(model.graph.node)
    for end in (1, 2, 7, nodes // 2, nodes // 2, nodes - 1, nodes):
        walk.advance(end)
        assert walk.position == end
    logits = np.concatenate([group["logits"] for group in walk.held])
    step = either.table.tensors["logits"].params.scale[0] if quantized else 1e-4
    # Fused and literal integer arithmetic round differently here and there.
    assert np.abs(logits - run(model, either.images)).mean() < step


def test_only_what_is_read_later_is_held(v1: SimpleNamespace) -> None:
    names = [node.output[0] for node in v1.model.graph.node]
    walk = Walk(v1.model, v1.images)
    walk.advance(names.index("features.4.depthwise") + 1)
    assert set(walk.held[0]) == {"features.4.depthwise", "features.3.project"}
    walk.advance(len(names))
    assert set(walk.held[0]) == {"logits"}


def test_what_a_part_does_not_read_may_lack_a_name() -> None:
    """ONNX leaves an optional input out by an empty name; the graph's first output may be computed before others."""
    model = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["": 21]>
        two (uint8[n, 4, 4, 3] image) => (float[n, 4, 4, 3] first, float[n, 4, 4, 3] second)
        <float high = {3.0}>
        {
            pixels = Cast<to = 1>(image)
            first = Clip(pixels, , high)
            second = Add(first, pixels)
        }"""
    )
    images = np.arange(2 * 48, dtype=np.uint8).reshape(2, 4, 4, 3)
    walk = Walk(model, images)
    walk.advance(1)
    piece = walk.next_piece()
    assert [value.name for value in piece.graph.input] == ["pixels"]
    assert np.array_equal(walk.finish(piece)(walk.held), np.minimum(images, 3))
    walk.advance(2)
    assert [tensor.name for tensor in walk.next_piece().graph.initializer] == []
    assert np.array_equal(walk.finish(walk.next_piece())(walk.held), np.minimum(images, 3))
    walk.advance(3)
    assert np.array_equal(walk.finish(walk.next_piece())(walk.held), np.minimum(images, 3))


def test_a_part_may_run_again_on_other_values(v1: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulate, "LARGEST_GROUP", 5)
    walk = Walk(v1.model, v1.images)
    at = [node.output[0] for node in v1.model.graph.node].index("pool") + 1
    walk.advance(at)
    assert [len(group["pool"]) for group in walk.held] == [5, 5, 2]
    rest = Runner(part(walk.model, at, len(v1.model.graph.node)))
    weight, bias = (
        onnx.numpy_helper.to_array(tensor)
        for name in ("logits.weight", "logits.bias")
        for tensor in v1.model.graph.initializer
        if tensor.name == name
    )
    for factor in (1.0, 2.0):
        found = rest([{"pool": factor * group["pool"]} for group in walk.held])
        for group, before in zip(found, walk.held, strict=True):
            assert np.allclose(group["logits"], factor * before["pool"][:, :, 0, 0] @ weight.T + bias, atol=1e-4)


def test_from_every_position_the_logits_are_the_whole_network_s(v1: SimpleNamespace) -> None:
    images = v1.images[:2]
    walk, expected = Walk(v1.model, images), run(v1.model, images)
    for position in range(len(v1.model.graph.node) + 1):
        walk.advance(position)
        np.testing.assert_allclose(walk.finish(walk.next_piece())(walk.held), expected, atol=1e-5)


def test_what_is_behind_the_next_piece_is_opened_once_for_all_that_end_there(
    v1: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    walk = Walk(v1.model, v1.images[:1])
    first, second, third = [neck for neck in necks(walk.model) if neck > 20][:3]
    assert third > second > first
    opened: list[int] = []
    monkeypatch.setattr(subject, "Runner", lambda piece: opened.append(len(piece.graph.node)) or Runner(piece))
    walk.advance(second - 1)
    opened.clear()
    for _ in range(3):
        walk.finish(walk.next_piece())
    assert opened == [1, len(walk.model.graph.node) - second, 1, 1]


def test_a_neck_is_where_one_tensor_leads_on(v1: SimpleNamespace) -> None:
    nodes = v1.model.graph.node
    names = [nodes[neck - 1].output[0] for neck in necks(v1.model)]
    assert "features.3.project" in names
    assert "features.4.depthwise" not in names  # its block's input is added to its output
    walk = Walk(v1.model, v1.images[:1])
    for neck in necks(v1.model):
        walk.advance(neck)
        assert len(walk.held[0]) == 1


def test_an_output_beside_the_logits_leads_on_to_the_end(v1: SimpleNamespace) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(v1.model)
    nodes = list(model.graph.node)
    at = [node.output[0] for node in nodes].index("features.3.project") + 1
    model.graph.output.append(onnx.helper.make_tensor_value_info("features.3.project", onnx.TensorProto.FLOAT, None))
    assert [neck for neck in necks(model) if neck >= at] == [at]
