"""Every tensor that a `.ort` file computes: its own optimized graph once more as an ONNX model, all values put out.

ONNX Runtime can put out a `.ort` file's declared outputs only. The same operators in the same versions and domains,
with the same attributes and constants, run by the same kernels when nothing is optimized a second time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from rexnet_export.pipeline.core.errors import ConversionError, first_line
from rexnet_export.pipeline.core.outputs import PROBABILITIES
from rexnet_export.pipeline.machine.onnx_session import open_session
from rexnet_export.quantization.onnx.view import attributes_of
from rexnet_export.quantization.table.params import INT8_MIN, QuantParams
from rexnet_export.targets.ort import format as ort_format
from rexnet_export.targets.ort.as_uint8 import unsigned
from rexnet_export.targets.ort.format import FLOAT_TYPES, Graph, Table

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, SessionOptions

type Layout = Literal["NCHW", "NHWC"]

IMAGE, LOGITS = "image", "logits"
_INTEGERS = frozenset({TensorProto.UINT8, TensorProto.INT8})
_TO_NHWC = (0, 2, 3, 1)
# Operators whose result has the layout they compute in; the others keep that of their first input.
_PLACED = frozenset(
    {"Conv", "FusedConv", "GlobalAveragePool", "QLinearConv", "QLinearGlobalAveragePool", "NhwcFusedConv"}
)


@dataclass(frozen=True, kw_only=True)
class _Value:
    """A value of the optimized graph: the ONNX tensor it is, its layout, and its parameters where it is integers.

    `channels` are the tensor's own, where zeros stand behind them.
    """

    name: str
    tensor: str
    layout: Layout
    params: QuantParams | None
    channels: int | None


@dataclass(frozen=True, kw_only=True)
class OrtTracer:
    """The graph of one file, ready to put out every tensor of one image."""

    session: InferenceSession
    values: tuple[_Value, ...]

    def trace(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """uint8 [N, S, S, 3] -> real numbers [N, C, H, W] or [N, C] by ONNX tensor name, in graph order."""
        parts = [self._one(image[None]) for image in images]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _one(self, image: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        try:
            found = self.session.run([value.name for value in self.values], {IMAGE: np.ascontiguousarray(image)})
        except Exception as error:
            raise ConversionError(f"ONNX Runtime stopped in the traced model: {first_line(error)}") from error
        return {value.tensor: _real(value, stored) for value, stored in zip(self.values, found, strict=True)}


def _real(value: _Value, stored: NDArray[np.generic]) -> NDArray[np.float32]:
    if value.params is not None:
        offset = -INT8_MIN if stored.dtype == np.uint8 else 0
        stored = value.params.dequantize(stored.astype(np.int64) - offset)
    if stored.ndim == 4 and value.layout == "NHWC":
        stored = stored.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(stored[:, : value.channels], np.float32)


def open_tracer(content: bytes, options: SessionOptions, *, widened: bool = False) -> OrtTracer:
    """Rebuild the graph of a `.ort` file that ONNX Runtime has verified, with every tensor as an output.

    `widened` computes INT8 weights as UINT8: the same tensors on a processor that would lose sums of theirs.
    """
    import onnxruntime  # noqa: PLC0415

    graph = ort_format.parse(content)
    model = rebuilt(content)
    values = tuple(_values(model, graph))
    model = unsigned(model) if widened else model
    del model.graph.output[:]
    model.graph.output.extend(helper.make_tensor_value_info(v.name, graph.types[v.name], None) for v in values)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return OrtTracer(session=open_session(model.SerializeToString(), "the traced model", options), values=values)


def rebuilt(content: bytes) -> onnx.ModelProto:
    """The file's graph as an ONNX model, nodes sorted so that each follows what it reads."""
    stored = ort_format.stored_model(content)
    graph = stored.Graph()
    nodes = [_node(graph.Nodes(i)) for i in range(graph.NodesLength())]
    outputs = tuple(graph.Outputs(i).decode() for i in range(graph.OutputsLength()))
    imports = [stored.OpsetImport(i) for i in range(stored.OpsetImportLength())]
    return helper.make_model(
        helper.make_graph(
            list(_sorted(nodes, outputs)),
            "traced",
            [_declared(graph, IMAGE)],
            [_declared(graph, name) for name in outputs],
            [numpy_helper.from_array(values, name) for name, values in ort_format.constants(graph).items()],
        ),
        ir_version=stored.IrVersion(),
        opset_imports=[helper.make_opsetid(i.Domain().decode(), i.Version()) for i in imports],
    )


def _declared(stored: Table, name: str) -> onnx.ValueInfoProto:
    (value,) = (
        value for value in map(stored.NodeArgs, range(stored.NodeArgsLength())) if value.Name().decode() == name
    )
    shape, element = ort_format.shape_and_type(value)
    return helper.make_tensor_value_info(name, element, shape)


def _node(stored: Table) -> onnx.NodeProto:
    node = helper.make_node(
        stored.OpType().decode(),
        [stored.Inputs(i).decode() for i in range(stored.InputsLength())],
        [stored.Outputs(i).decode() for i in range(stored.OutputsLength())],
        stored.Name().decode(),
        domain=stored.Domain().decode(),
    )
    node.attribute.extend(_attribute(stored.Attributes(i)) for i in range(stored.AttributesLength()))
    return node


def _attribute(stored: Table) -> onnx.AttributeProto:
    kinds = onnx.AttributeProto
    name, kind = stored.Name().decode(), stored.Type()
    match kind:  # the numbers are ONNX's own
        case kinds.FLOAT:
            value = stored.F()
        case kinds.INT:
            value = stored.I()
        case kinds.STRING:
            value = stored.S()
        case kinds.FLOATS:
            value = [stored.Floats(i) for i in range(stored.FloatsLength())]
        case kinds.INTS:
            value = [stored.Ints(i) for i in range(stored.IntsLength())]
        case _:
            raise ConversionError(f"attribute {name} has type {kind}, which no operator of a ReXNet has")
    return helper.make_attribute(name, value, attr_type=kind)


def _sorted(nodes: list[onnx.NodeProto], outputs: tuple[str, ...]) -> Iterator[onnx.NodeProto]:
    """Depth first from the outputs, first inputs first: for these networks the order of the float graph."""
    makers = {name: node for node in nodes for name in node.output}
    done: set[str] = set()
    pending = list(outputs)
    while pending:
        node = makers.get(pending[-1])
        unread = [] if node is None else [name for name in node.input if name in makers and name not in done]
        if unread:
            pending.append(unread[0])
            continue
        if node is not None and pending[-1] not in done:
            done.update(node.output)
            yield node
        pending.pop()


def _values(model: onnx.ModelProto, graph: Graph) -> Iterator[_Value]:
    """What every node makes, each ONNX tensor once; the graph's own outputs stand for the integers they are made of."""
    names, params = ort_format.tensor_names(graph), ort_format.quantization(graph)
    layouts: dict[str, Layout] = {IMAGE: "NHWC"}
    found: dict[str, _Value] = {}
    for node in model.graph.node:
        (output,) = node.output
        layouts[output] = _layout(node, layouts)
        element = graph.types[output]
        if output == PROBABILITIES:
            continue
        if element in _INTEGERS and output in names:
            tensor, grid = names[output], params.get(names[output])
        elif element in FLOAT_TYPES and not ort_format.is_read_back(output):
            tensor, grid = ort_format.plain(output), None
        else:
            continue
        own = graph.channels.get(tensor)
        found[tensor] = _Value(name=output, tensor=tensor, layout=layouts[output], params=grid, channels=own)
    yield from found.values()


def _layout(node: onnx.NodeProto, layouts: Mapping[str, Layout]) -> Layout:
    attributes = attributes_of(node)
    if node.op_type == "Transpose":
        return "NHWC" if tuple(attributes["perm"]) == _TO_NHWC else "NCHW"
    if node.op_type in _PLACED:
        return "NHWC" if attributes.get("channels_last") or node.op_type.startswith("Nhwc") else "NCHW"
    # The scale and zero point of what a QLinearConcat joins stand in front.
    return layouts[node.input[2 if node.op_type == "QLinearConcat" else 0]]
