"""Float ONNX in inference form -> float TFLite graph whose tensors carry the ONNX names.

onnx2tf lowers the part after the image; what it wrote is then matched to the ONNX graph operator by operator and
value by value, since its own correspondence report misses tensors that its layout passes renamed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.quantization.onnx.view import attributes_of
from rexnet_export.targets.tflite.flatbuffer import Graph
from rexnet_export.targets.tflite.onnx2tf import NHWC, lowered

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import OperatorT

CORE_INPUT, PADDED = "input", ".padded"
SAME, VALID = 0, 1
_ACTIVATIONS = {"Clip": "RELU6", "Relu": "RELU"}
_KINDS = {
    "Sigmoid": "LOGISTIC",
    "Mul": "MUL",
    "Add": "ADD",
    "GlobalAveragePool": "MEAN",
    "Flatten": "RESHAPE",
    "Gemm": "FULLY_CONNECTED",
    "Pad": "PAD",
    "Concat": "CONCATENATION",
}


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A weight or bias: its tensor index, its values as in ONNX, and `permutation` of ONNX axes into TFLite's."""

    index: int
    values: NDArray[np.float32]
    permutation: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Lowered:
    """A float TFLite graph with the tensor index of each activation and parameter, by ONNX name.

    `padded` are copies of activations with zeros around them, by tensor index: TFLite's own padding of strided
    convolutions is not symmetric. An activation that its clamp took up has the clamp's index.
    """

    graph: Graph
    activations: Mapping[str, int]
    parameters: Mapping[str, Parameter]
    padded: Mapping[int, str]
    outputs: tuple[str, ...]


def lower(model: onnx.ModelProto) -> Lowered:
    """Lower the graph from `input` on and prove that the result computes what the ONNX graph says."""
    core = core_graph(model)
    return matched(core, lowered(core))


def matched(core: onnx.ModelProto, graph: Graph) -> Lowered:
    """Find each ONNX node's operator by its inputs, geometry and values, and give the tensors the ONNX names."""
    return _Matching(core, graph).lowered()


def core_graph(model: onnx.ModelProto) -> onnx.ModelProto:
    """What follows the image front: float32 `input` [1, 4, S, S] -> `logits` [1, classes]."""
    outputs = [value.name for value in model.graph.output]
    core: onnx.ModelProto = onnx.utils.Extractor(model).extract_model([CORE_INPUT], outputs)
    for value in (*core.graph.input, *core.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    del core.graph.value_info[:]
    return core


class _Matching:
    """Walks the ONNX nodes in order and finds each one's operator among the readers of its inputs."""

    def __init__(self, core: onnx.ModelProto, graph: Graph) -> None:
        self._nodes = core.graph.node
        self._outputs = tuple(value.name for value in core.graph.output)
        self._constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in core.graph.initializer}
        self._graph = graph
        self._places = {CORE_INPUT: int(graph.subgraph.inputs[0])}
        self._parameters: dict[str, Parameter] = {}
        self._padded: dict[int, str] = {}
        self._clamps: dict[int, str] = {}

    def lowered(self) -> Lowered:
        """Match every node, then name the tensors; what no node explains in the file is an error."""
        for node in self._nodes:
            if node.op_type in _ACTIVATIONS:
                self._match_clamp(node)
            else:
                self._match(node)
        self._check_nothing_added()
        for index, name in [(index, name) for name, index in self._places.items()]:
            self._graph.tensor(index).name = name.encode()
        for index, name in self._padded.items():
            self._graph.tensor(index).name = f"{name}{PADDED}".encode()
        for name, parameter in self._parameters.items():
            self._graph.tensor(parameter.index).name = name.encode()
        return Lowered(
            graph=self._graph,
            activations=self._places,
            parameters=self._parameters,
            padded=self._padded,
            outputs=self._outputs,
        )

    def _check_nothing_added(self) -> None:
        graph, explained = self._graph, {*self._places.values(), *self._padded}
        for operator in graph.operators:
            output = int(operator.outputs[0])
            if output not in explained or graph.activation(operator) != self._clamps.get(output, "NONE"):
                what = f"{graph.kind(operator)} {graph.name(output)} with activation {graph.activation(operator)}"
                raise ConversionError(f"onnx2tf wrote {what}, which the ONNX graph does not ask for; report this model")
        if list(graph.subgraph.outputs) != [self._places[name] for name in self._outputs]:
            raise ConversionError(f"onnx2tf's model does not end at {', '.join(self._outputs)}; report this model")

    def _match_clamp(self, node: onnx.NodeProto) -> None:
        bounds = [float(self._constants[name]) for name in node.input[1:]]
        if node.op_type == "Clip" and bounds != [0.0, 6.0]:
            raise ConversionError(f"Clip {node.name} to {bounds} has no TFLite form here; only [0, 6] has")
        place = self._place(node.input[0])
        self._clamps[place] = _ACTIVATIONS[node.op_type]
        self._places[node.output[0]] = place

    def _match(self, node: onnx.NodeProto) -> None:
        candidates = list(self._conv(node) if node.op_type == "Conv" else self._plain(node))
        if len(candidates) != 1:
            raise ConversionError(
                f"{node.op_type} {node.name} has {len(candidates)} counterparts in onnx2tf's model instead of one; "
                "report this model"
            )
        operator, pad = candidates[0]
        if pad is not None:
            self._padded[int(pad.outputs[0])] = node.input[0]
        if node.op_type in {"Conv", "Gemm"}:
            for name, index in zip(node.input[1:3], operator.inputs[1:3], strict=True):
                values = self._constants[name]
                self._parameters[name] = Parameter(
                    index=int(index), values=values, permutation=_permutation(node, values.ndim)
                )
        self._places[node.output[0]] = int(operator.outputs[0])

    def _readers(self, index: int, kind: str) -> Iterator[OperatorT]:
        for operator in self._graph.operators:
            if index in operator.inputs and self._graph.kind(operator) == kind:
                yield operator

    def _plain(self, node: onnx.NodeProto) -> Iterator[tuple[OperatorT, None]]:
        if node.op_type not in _KINDS:
            raise ConversionError(f"{node.op_type} {node.name} has no TFLite form here; rewrite the graph")
        sources = [self._place(name) for name in node.input if name not in self._constants]
        arranged = list if node.op_type == "Concat" else set  # the order of other operators' inputs is no matter
        for operator in self._readers(min(sources), _KINDS[node.op_type]):
            moving = [int(index) for index in operator.inputs if not self._graph.is_constant(index)]
            if arranged(moving) == arranged(sources) and self._same_constants(node, operator):
                yield operator, None

    def _conv(self, node: onnx.NodeProto) -> Iterator[tuple[OperatorT, OperatorT | None]]:
        attributes = attributes_of(node)
        kind = "CONV_2D" if attributes["group"] == 1 else "DEPTHWISE_CONV_2D"
        source, strides = self._place(node.input[0]), attributes["strides"]
        above, left, below, right = attributes["pads"]
        around = [[0, 0], [above, below], [left, right], [0, 0]]
        inside: list[tuple[int, OperatorT | None]] = [(source, None)]
        inside += [
            (int(pad.outputs[0]), pad)
            for pad in self._readers(source, "PAD")
            if self._graph.values(pad.inputs[1]).tolist() == around
        ]
        for index, pad in inside:
            for operator in self._readers(index, kind):
                options = operator.builtinOptions
                same_geometry = [options.strideH, options.strideW] == strides and (
                    not any(attributes["pads"]) or options.padding == (SAME if pad is None else VALID)
                )
                # SAME is symmetric, as ONNX means it here, for odd kernels at stride 1 only.
                if same_geometry and (pad or strides == [1, 1]) and self._same_constants(node, operator):
                    yield operator, pad

    def _same_constants(self, node: onnx.NodeProto, operator: OperatorT) -> bool:
        stored = [self._graph.values(index) for index in operator.inputs if self._graph.is_constant(index)]
        match node.op_type:
            case "Conv" | "Gemm":
                weight, bias = (self._constants[name] for name in node.input[1:3])
                wanted = [weight.transpose(_permutation(node, weight.ndim)), bias]
                return all(map(np.array_equal, stored, wanted))
            case "GlobalAveragePool":
                return bool(operator.builtinOptions.keepDims) and stored[0].tolist() == [1, 2]
            case "Concat":
                return operator.builtinOptions.axis in {3, -1}  # the channels of NHWC
            case "Pad":
                before, after = np.split(self._constants[node.input[1]], 2)
                return np.array_equal(stored[0], np.stack([before, after], axis=1)[list(NHWC)])
        return True

    def _place(self, name: str) -> int:
        if name not in self._places:
            raise ConversionError(f"{name} is read before it is computed; the ONNX graph is not in order")
        return self._places[name]


def _permutation(node: onnx.NodeProto, rank: int) -> tuple[int, ...]:
    """ONNX [out, in, h, w] -> TFLite [out, h, w, in], depthwise [1, h, w, out]; a matrix stays [out, in]."""
    if rank != 4:
        return tuple(range(rank))
    return NHWC if attributes_of(node)["group"] == 1 else (1, 2, 3, 0)
