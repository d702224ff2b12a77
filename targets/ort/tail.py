"""The pooled map before a head, flattened where it lies.

ONNX Runtime computes quantized networks channels last. Flatten wants them first, so it transposes what the last
convolution makes, and SiLU and the pool run in that layout, in which the pool of four pixels takes four times as long.
One pixel is the same in both: a Transpose behind the pool, which copies nothing, cancels the one before it.
"""

from __future__ import annotations

import onnx
from onnx import helper

from rexnet_export.quantization.onnx.view import view

TO_NHWC = (0, 2, 3, 1)
SUFFIX = ".nhwc"


def flat_where_it_lies(model: onnx.ModelProto) -> onnx.ModelProto:
    """A QDQ graph that flattens each pooled map [N, C, 1, 1] as [N, 1, 1, C]: the same integers."""
    graph = view(model)
    makers = {node.output[0]: node for node in graph.nodes}
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    del changed.graph.node[:]
    for node in graph.nodes:
        pooled = node.op_type == "Flatten" and _is_pooled(node.input[0], makers)
        if pooled:
            moved = f"{node.name}{SUFFIX}"
            changed.graph.node.append(helper.make_node("Transpose", node.input, [moved], moved, perm=TO_NHWC))
        changed.graph.node.append(node)
        if pooled:
            changed.graph.node[-1].input[0] = moved
    return changed


def _is_pooled(value: str, makers: dict[str, onnx.NodeProto]) -> bool:
    quantized = makers.get(value)
    pool = makers.get(quantized.input[0]) if quantized is not None and quantized.op_type == "QuantizeLinear" else None
    return pool is not None and pool.op_type == "GlobalAveragePool"
