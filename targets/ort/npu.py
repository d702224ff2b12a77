"""The INT8 graph for execution providers of NPUs: every operator between QuantizeLinear and DequantizeLinear.

Channels are appended by 1x1 convolutions instead of Pad: their weights are 1 or 0, their scales powers of two apart, so
every integer behind them is what it was. Why: decision 0024.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import onnx
from onnx import helper, numpy_helper

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.quantization.onnx.view import model_sha256, view
from rexnet_export.quantization.scheme.insert_qdq import Integers, insert_qdq
from rexnet_export.quantization.table.params import QuantParams, for_bias
from rexnet_export.quantization.table.table import QuantTable, TensorEntry
from rexnet_export.targets.ort.moves import APPENDING, WHITE

PIXELS = "input.pixels"
ONE = 1 / 64  # the scale of weights that are 1 or 0: 64 and 0 as integers


def npu_graph(model: onnx.ModelProto, table: QuantTable, integers: Integers = "uint8") -> onnx.ModelProto:
    """The QDQ graph of a float model and its table for one image, uint8 [1, H, W, C] -> `logits` [1, classes].

    It gives the logits of `insert_qdq(model, table, integers)`, digit for digit. `ConversionError` as there, and for a
    Pad of anything but channels.
    """
    rewriting = _Rewriting(model, table)
    nodes = [new for node in model.graph.node for new in rewriting.replaced(node)]
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    del changed.graph.node[:], changed.graph.value_info[:]
    changed.graph.node.extend(nodes)
    changed.graph.initializer.extend(rewriting.initializers)
    for value in (*changed.graph.input, *changed.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    tensors = dict(table.tensors) | rewriting.entries
    own = replace(table, model_sha256=model_sha256(changed), tensors=tensors)
    return insert_qdq(changed, own, integers, moved=False)


class _Rewriting:
    """What nodes become, and the initializers and the table's entries that they need."""

    def __init__(self, model: onnx.ModelProto, table: QuantTable) -> None:
        self.initializers: list[onnx.TensorProto] = []
        self.entries: dict[str, TensorEntry] = {}
        self._graph = view(model)
        self._tensors = table.tensors
        self._channels = {value.name: value.type.tensor_type.shape.dim[1].dim_value for value in model.graph.value_info}

    def replaced(self, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
        """A node as it is, or what computes the same without a Pad."""
        output, images = node.output[0], self._graph.inputs
        match node.op_type:
            case "Pad" if node.input[0] in images:
                pass  # the image's constant channel: appended once pixels are real numbers
            case "Transpose":
                yield helper.make_node("Transpose", [*images], [output], output, perm=[0, 3, 1, 2])
            case "DequantizeLinear":
                yield helper.make_node("DequantizeLinear", [node.input[0], *node.input[1:]], [PIXELS], PIXELS)
                self.entries[PIXELS] = self._tensors[output]
                yield self._appending(PIXELS, output, 1, WHITE)
            case "Pad":
                before, after = np.split(self._graph.constant(node, 1), 2)
                if np.delete(after, 1).any() or before.any():
                    raise ConversionError(f"Pad {node.name} pads more than channels; rewrite the graph")
                yield self._appending(node.input[0], output, int(after[1]), 0)
            case _:
                yield node

    def _appending(self, source: str, output: str, added: int, value: int) -> onnx.NodeProto:
        """A 1x1 convolution that copies the channels of `source` and appends `added` ones of `value` steps above 0."""
        params = self._tensors[output].params
        if params is None:
            raise ConversionError(f"{output} is float in the table; an NPU's graph has no float parts")
        channels = self._channels[output]
        weight, bias = f"{output}{APPENDING}.weight", f"{output}{APPENDING}.bias"
        ones = np.eye(channels, channels - added, dtype=np.float32)[:, :, None, None]
        level = np.zeros(channels, np.float32)
        level[channels - added :] = value * params.scale[0]
        self.initializers += [numpy_helper.from_array(ones, weight), numpy_helper.from_array(level, bias)]
        grid = QuantParams(scale=(ONE,) * channels, zero_point=(0,) * channels, axis=0)
        self.entries[weight] = TensorEntry(decision="weights", params=grid)
        self.entries[bias] = TensorEntry(decision="derived", params=for_bias(params, grid), source=source)
        return helper.make_node(
            "Conv", [source, weight, bias], [output], output,
            kernel_shape=[1, 1], strides=[1, 1], pads=[0, 0, 0, 0], dilations=[1, 1], group=1,
        )  # fmt: skip
