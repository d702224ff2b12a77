"""The sigmoid in INT8, and where it stops telling its inputs apart.

Its output takes the levels 0, 1/256 ... 255/256. Every input below ln(1/511) comes out as 0 and every one above
ln(509/3) as 255/256, however far beyond it lies; and x * sigmoid(x), SiLU, is then 0 for the low ones as well. A range
that covers such values spends steps of the scale on inputs that have one and the same answer: for channels that reach
from -100 to 100, nearly half of them.
"""

from __future__ import annotations

import math

from rexnet_export.quantization.onnx.view import GraphView
from rexnet_export.quantization.table.params import INT8_MIN, LEVELS, QuantParams

PARAMS = QuantParams(scale=(1 / (LEVELS + 1),), zero_point=(INT8_MIN,))
SATURATES = (math.log(1 / 511), math.log(509 / 3))  # where the output rounds to the first and to the last level
# A range's grid may end half a step inside it (see `from_range`), and Core ML computes in float16; with both, inputs so
# far beyond still come out as the first and the last level, or SiLU's steps are too wide to show that they do not.
SLACK = 0.1
LOWEST, HIGHEST = SATURATES[0] - SLACK, SATURATES[1] + SLACK

type Span = tuple[float, float]


def spans(graph: GraphView) -> dict[str, Span]:
    """What INT8 can tell apart, (low, high), of every tensor that nothing but a sigmoid or a SiLU reads."""
    found = {}
    for node in graph.nodes:
        if node.op_type != "Sigmoid":
            continue
        (source,), (output,) = node.input, node.output
        others = [reader for reader in graph.consumers[source] if reader.op_type != "Sigmoid"]
        silus = [other for other in others if other.op_type == "Mul" and set(other.input) == {source, output}]
        if source not in graph.outputs and len(silus) == len(others):
            found[source] = (LOWEST, math.inf if silus else HIGHEST)
    return found
