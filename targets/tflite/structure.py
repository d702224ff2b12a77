"""What a TFLite file is built of, and how much memory its activations take."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

import numpy as np

from rexnet_export.pipeline.artifact.memory_arena import METHOD, Life, peak_bytes
from rexnet_export.pipeline.artifact.structure import Structure, islands
from rexnet_export.targets.tflite.flatbuffer import Graph
from rexnet_export.targets.tflite.inspect import float_operators


def structure(graph: Graph) -> Structure:
    """Constants, operators, what is left in float, and the arena that TensorFlow Lite's planner would fill.

    The arena is without what single kernels need for themselves.
    """
    left = list(float_operators(graph))
    kinds = Counter(graph.kind(operator) for operator in left)
    constants = [index for index in graph.indices() if graph.is_constant(index)]
    return Structure(
        tensor_bytes=sum(graph.values(index).nbytes for index in constants),
        operators=dict(Counter(graph.kind(operator) for operator in graph.operators)),
        float_islands=islands(
            (map(graph.name, operator.inputs), map(graph.name, operator.outputs)) for operator in left
        ),
        qdq_pairs=max(kinds["QUANTIZE"], kinds["DEQUANTIZE"]),
        arena_bytes=peak_bytes(_lives(graph)),
        arena_method=METHOD,
    )


def _lives(graph: Graph) -> Iterator[Life]:
    """Every tensor that is computed lives from the operator that makes it to the last that reads it; inputs and
    outputs, as the runtime keeps them for the caller, from the first operator or to the last one."""
    steps = range(len(graph.operators))
    made = {int(i): step for step in steps for i in graph.operators[step].outputs}
    read = {int(i): step for step in steps for i in graph.operators[step].inputs}
    ends = {int(i) for i in (*graph.subgraph.inputs, *graph.subgraph.outputs)}
    for index in graph.indices():
        if not graph.is_constant(index):
            bytes_each = np.dtype(graph.type(index).lower()).itemsize
            yield Life(
                bytes=math.prod(graph.shape(index)) * bytes_each,
                first=made.get(index, 0),
                last=len(steps) if index in ends else read.get(index, made.get(index, 0)),
            )
