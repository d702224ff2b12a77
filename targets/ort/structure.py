"""What an ONNX Runtime file is built of, counted from its optimized graph."""

from __future__ import annotations

from collections import Counter

from rexnet_export.pipeline.artifact.structure import Structure, islands
from rexnet_export.pipeline.core.records import NotMeasured
from rexnet_export.targets.ort.coverage import float_nodes
from rexnet_export.targets.ort.format import Graph

ARENA = NotMeasured(reason="ONNX Runtime plans its memory when it loads a file, and does not say how much")


def structure(graph: Graph) -> Structure:
    """Constants, operators and what is left in float."""
    left = list(float_nodes(graph))
    kinds = Counter(node.op for node in left)
    return Structure(
        tensor_bytes=sum(values.nbytes for values in graph.constants.values()),
        operators=dict(Counter(node.op for node in graph.nodes)),
        float_islands=islands((node.inputs, node.outputs) for node in left),
        qdq_pairs=max(kinds["QuantizeLinear"], kinds["DequantizeLinear"]),
        arena_bytes=ARENA,
    )
