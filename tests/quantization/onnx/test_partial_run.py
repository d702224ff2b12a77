from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import onnx
import pytest

from rexnet_export.quantization.onnx import simulate
from rexnet_export.quantization.onnx.partial_run import Runner, Walk, part
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
    rest = walk.rest()
    assert [value.name for value in rest.graph.input] == ["pixels"]
    assert np.array_equal(walk.finish(rest)(walk.held), np.minimum(images, 3))
    walk.advance(2)
    assert [tensor.name for tensor in walk.rest().graph.initializer] == []
    assert np.array_equal(walk.finish(walk.rest())(walk.held), np.minimum(images, 3))
    walk.advance(3)
    assert np.array_equal(walk.finish(walk.rest())(walk.held), np.minimum(images, 3))


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
