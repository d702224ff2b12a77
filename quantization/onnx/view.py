"""What the quantization reads of an ONNX graph: constants, consumers, and the digest tables refer to."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from rexnet_export.pipeline.core.errors import ConversionError


@dataclass(frozen=True, kw_only=True)
class GraphView:
    """Nodes in execution order, constants and consumers by tensor name, and the graph's own ends."""

    nodes: tuple[onnx.NodeProto, ...]
    constants: Mapping[str, NDArray[Any]]
    consumers: Mapping[str, tuple[onnx.NodeProto, ...]]
    inputs: frozenset[str]
    outputs: frozenset[str]

    def constant(self, node: onnx.NodeProto, position: int) -> NDArray[Any]:
        """The constant at one input of a node; a missing or computed one is a `ConversionError`."""
        name = node.input[position] if position < len(node.input) else ""
        if name not in self.constants:
            raise ConversionError(f"{node.op_type} {node.name} needs a constant as input {position}, not {name!r}")
        return self.constants[name]


def view(model: onnx.ModelProto) -> GraphView:
    """Read a model once; arrays are copies."""
    graph = model.graph
    consumers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            consumers.setdefault(name, []).append(node)
    return GraphView(
        nodes=tuple(graph.node),
        constants={tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer},
        consumers={name: tuple(nodes) for name, nodes in consumers.items()},
        inputs=frozenset(value.name for value in graph.input),
        outputs=frozenset(value.name for value in graph.output),
    )


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    """A node's attributes by name; one that is left out is not there."""
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def model_sha256(model: onnx.ModelProto) -> str:
    """Digest of what a model computes: its graph and operator sets, whatever it says of itself beside them.

    So a table still fits when labels, or the file the checkpoint came in, change.
    """
    content = onnx.ModelProto(graph=model.graph, opset_import=model.opset_import)
    return hashlib.sha256(content.SerializeToString(deterministic=True)).hexdigest()
