"""Every activation of a `.tflite` file: a copy of the flatbuffer whose outputs are all its activations.

LiteRT reuses the memory of tensors inside a graph, and XNNPACK keeps what lies between its kernels to itself; declared
as outputs, both hand them out, and the same kernels run (LiteRT's own switch to preserve tensors runs others).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rexnet_export.pipeline.core.outputs import PROBABILITIES
from rexnet_export.quantization.table.params import QuantParams
from rexnet_export.targets.tflite.flatbuffer import Graph
from rexnet_export.targets.tflite.front import APPENDED, TOGETHER
from rexnet_export.targets.tflite.match_onnx import PADDED
from rexnet_export.targets.tflite.stamp import IMAGE, LEFT, PIXELS, QUANTIZED, READ

_NOT_IN_ONNX = (PADDED, PIXELS, TOGETHER, APPENDED, QUANTIZED, READ, LEFT, PROBABILITIES)


@dataclass(frozen=True, kw_only=True)
class Traced:
    """The copy, and the parameters of its outputs by ONNX name, in the file's order; None where they are float."""

    content: bytes
    tensors: Mapping[str, QuantParams | None]

    def real(self, outputs: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.float32]]:
        """What one run put out, as real numbers [1, C, H, W] or [1, C]."""
        return {name: _real(outputs[name], params) for name, params in self.tensors.items()}


def traced(graph: Graph) -> Traced:
    """Make every activation an output; the graph is used up.

    Padded copies of an activation stay inside, so that XNNPACK can go on padding while it reads.
    """
    indices = dict(_activations(graph))
    tensors = {name: graph.quantization(index) for name, index in indices.items()}
    graph.set_signature({IMAGE: int(graph.subgraph.inputs[0])}, indices)
    return Traced(content=graph.written(), tensors=tensors)


def _activations(graph: Graph) -> dict[str, int]:
    """Tensors that operators compute from the image; not float16 weights made float, nor helpers of our lowering."""
    computed, found = {int(graph.subgraph.inputs[0])}, {}
    for operator in graph.operators:
        (output,) = (int(index) for index in operator.outputs)
        if computed.isdisjoint(int(index) for index in operator.inputs):
            continue
        computed.add(output)
        if not (name := graph.name(output)).endswith(_NOT_IN_ONNX):
            found[name] = output
    return found


def _real(stored: NDArray[np.generic], params: QuantParams | None) -> NDArray[np.float32]:
    values = stored if params is None else params.dequantize(stored.astype(np.int64))
    if values.ndim == 4:
        values = values.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(values, np.float32)
