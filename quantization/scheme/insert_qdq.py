"""The quantized network as ONNX: the float graph with its tensors quantized and dequantized again (QDQ form).

t -> QuantizeLinear -> t.q -> DequantizeLinear -> t.dq -> consumers; weights and biases are integers -> .dq.
What the table leaves in float stays as it is in the float graph.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.quantization.onnx.view import GraphView, model_sha256, view
from rexnet_export.quantization.scheme.scheme import SHARING, plan
from rexnet_export.quantization.table.params import INT8_MIN, QuantParams
from rexnet_export.quantization.table.table import QuantTable, TensorEntry

type Integers = Literal["int8", "uint8"]
type Stored = dict[tuple[str, TensorEntry, np.dtype[Any]], tuple[onnx.TensorProto, ...]]


def insert_qdq(
    model: onnx.ModelProto,
    table: QuantTable,
    integers: Integers = "int8",
    *,
    weights: Integers | None = None,
    moved: bool = True,
) -> onnx.ModelProto:
    """Write the table into its float model; with `uint8`, all integers of 8 bits and their zero points are 128 higher.

    Weights too, unless `weights` says otherwise: x86 without VNNI adds products of uint8 and int8 in 16 bits, which
    saturate in silence. What only moves numbers (Pad, Flatten, Concat) moves integers, or, where not `moved`, has its
    own Q and DQ as the rest.
    """
    return QdqGraphs(model).of(table, integers, weights=weights, moved=moved)


class QdqGraphs:
    """`insert_qdq` for many tables of one float model: what follows from the model alone is found once.

    So are the integers of weights that tables have alike. The model must not change meanwhile.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model, self._digest, self._graph = model, model_sha256(model), view(model)
        self._planned = plan(self._graph).keys()
        self._stored: Stored = {}

    def of(
        self, table: QuantTable, integers: Integers = "int8", *, weights: Integers | None = None, moved: bool = True
    ) -> onnx.ModelProto:
        """As `insert_qdq`."""
        if self._digest != table.model_sha256:
            raise ConversionError(
                f"the table belongs to model {table.model_sha256[:12]}, not to {self._digest[:12]}; make the table "
                "again"
            )
        if differing := sorted(self._planned ^ table.tensors.keys()):
            raise ConversionError(f"the table and the model do not both have {differing[0]}; make the table again")
        rewriting = _Rewriting(self._graph, table, integers, weights or integers, self._stored, moved=moved)
        for node in self._graph.nodes:
            rewriting.add(node)
        quantized = onnx.ModelProto()
        quantized.CopyFrom(self._model)
        del quantized.graph.node[:], quantized.graph.value_info[:], quantized.graph.initializer[:]
        quantized.graph.node.extend(rewriting.nodes)
        used = {name for node in rewriting.nodes for name in node.input}
        quantized.graph.initializer.extend(tensor for tensor in self._model.graph.initializer if tensor.name in used)
        quantized.graph.initializer.extend(rewriting.initializers)
        quantized = onnx.shape_inference.infer_shapes(quantized, check_type=True, strict_mode=True)
        onnx.checker.check_model(quantized)  # in full but for the inference above
        return quantized


class _Rewriting:
    """New nodes and initializers, and where consumers now read each tensor (`readable`)."""

    def __init__(
        self,
        graph: GraphView,
        table: QuantTable,
        integers: Integers,
        weights: Integers,
        stored: Stored,
        *,
        moved: bool,
    ) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._graph = graph
        self._table = table
        self._stored = stored
        self._moved = SHARING if moved else frozenset[str]()
        self._type, self._weights = np.dtype(integers), np.dtype(weights)
        self._readable: dict[str, str] = {}
        self._grid: dict[str, tuple[str, str]] = {}

    def add(self, node: onnx.NodeProto) -> None:
        """Append what a float node becomes."""
        entry = self._table.tensors.get(node.output[0])
        if entry is None:
            self.nodes.append(node)
        elif self._moves_integers(node) and entry.params is not None:
            self._add_moved(node, entry.params)
        elif node.op_type == "DequantizeLinear":
            self._add_image(node, entry)
        else:
            self._add_computed(node, entry)

    def _add_computed(self, node: onnx.NodeProto, entry: TensorEntry) -> None:
        name = node.output[0]
        renamed = f"{name}.float" if name in self._graph.outputs and entry.params else name
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.name, copy.output[0] = renamed, renamed
        copy.input[:] = [self._read(source) for source in node.input]
        self.nodes.append(copy)
        if entry.params is not None:
            self._quantize(name, renamed, entry.params)

    def _add_moved(self, node: onnx.NodeProto, params: QuantParams) -> None:
        # Moving integers is exact and leaves no float operator; what is padded is the integer that stands for 0.
        name, sources = node.output[0], list(node.input if node.op_type == "Concat" else node.input[:1])
        for source in sources:
            if self._table.tensors[source].params != params:
                raise ConversionError(f"{name} and {source} need the same parameters; make the table again")
        scale, zero_point = self._grid[sources[0]]
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.name, copy.output[0] = f"{name}.q", f"{name}.q"
        copy.input[:] = [f"{source}.q" for source in sources]
        if node.op_type == "Pad":
            copy.input.extend([node.input[1], zero_point])
        self.nodes.append(copy)
        self._grid[name] = scale, zero_point
        self._dequantize(name, scale, zero_point)

    def _moves_integers(self, node: onnx.NodeProto) -> bool:
        return node.op_type in self._moved and self._table.tensors[node.output[0]].params is not None

    def _add_image(self, node: onnx.NodeProto, entry: TensorEntry) -> None:
        name = node.output[0]
        self.nodes.append(node)
        if self._type == np.uint8:
            # The image is uint8 already: the float graph's own DequantizeLinear is what the convolution needs.
            self._readable[name] = name
        elif entry.params is not None:
            self._quantize(name, name, entry.params)

    def _quantize(self, name: str, tensor: str, params: QuantParams) -> None:
        zero_point = np.asarray(params.zero_point[0] + _shift(self._type), self._type)
        scale_name = self._constant(f"{name}.q.scale", np.asarray(params.scale[0], np.float32))
        zero_name = self._constant(f"{name}.q.zero_point", zero_point)
        self._node("QuantizeLinear", [tensor, scale_name, zero_name], f"{name}.q")
        self._grid[name] = scale_name, zero_name
        self._dequantize(name, scale_name, zero_name)

    def _dequantize(self, name: str, scale: str, zero_point: str) -> None:
        consumers = self._graph.consumers.get(name, ())
        if consumers and all(self._moves_integers(consumer) for consumer in consumers):
            return
        output = name if name in self._graph.outputs else f"{name}.dq"
        self._node("DequantizeLinear", [f"{name}.q", scale, zero_point], output)
        self._readable[name] = output

    def _read(self, name: str) -> str:
        if name in self._graph.constants and name in self._table.tensors and name not in self._readable:
            self._store(name, self._table.tensors[name])
        return self._readable.get(name, name)

    def _store(self, name: str, entry: TensorEntry) -> None:
        if entry.params is None:
            return
        dtype = np.dtype(np.int32) if entry.params.bits == 32 else self._weights
        key = name, entry, dtype
        if key not in self._stored:
            integers = self._table.integers(name, self._graph.constants[name])
            zero_points = np.asarray(entry.params.zero_point) + _shift(dtype)
            self._stored[key] = (
                numpy_helper.from_array((integers + _shift(dtype)).astype(dtype), f"{name}.q"),
                numpy_helper.from_array(np.asarray(entry.params.scale, np.float32), f"{name}.q.scale"),
                numpy_helper.from_array(zero_points.astype(dtype), f"{name}.q.zero_point"),
            )
        self.initializers.extend(self._stored[key])
        inputs = [tensor.name for tensor in self._stored[key]]
        self._node("DequantizeLinear", inputs, f"{name}.dq", axis=entry.params.axis)
        self._readable[name] = f"{name}.dq"

    def _constant(self, name: str, value: NDArray[np.generic]) -> str:
        self.initializers.append(numpy_helper.from_array(value, name))
        return name

    def _node(self, op: str, inputs: list[str], output: str, axis: int | None = None) -> None:
        self.nodes.append(helper.make_node(op, inputs, [output], output, axis=axis))


def _shift(dtype: np.dtype[np.generic]) -> int:
    """What is added to the table's integers where they are stored unsigned."""
    return -INT8_MIN if dtype == np.uint8 else 0
