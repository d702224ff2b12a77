"""Named outputs of a float graph: declared beside the logits, or all that it computes."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import TensorProto, helper

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.records import Feature


def tapped(model: onnx.ModelProto, outputs: Sequence[Feature]) -> onnx.ModelProto:
    """A float graph with the backbone's outputs declared behind its own.

    What is declared an output is not rescaled or cut into groups, so these tensors stay what they are in torch while
    the logits go on judging every choice.
    """
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    named = {feature.name for feature in outputs}
    del changed.graph.value_info[:]
    changed.graph.value_info.extend(value for value in model.graph.value_info if value.name not in named)
    changed.graph.output.extend(_declared(model, outputs))
    return changed


def cut(model: onnx.ModelProto, outputs: Sequence[Feature]) -> onnx.ModelProto:
    """The part of a float graph that computes the backbone's outputs, which alone are its outputs."""
    named = {feature.name for feature in outputs}
    needed, nodes = set(named), []
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            nodes.append(node)
            needed.update(node.input)
    graph = helper.make_graph(
        nodes[::-1],
        f"{model.graph.name}_features",
        model.graph.input,
        _declared(model, outputs),
        [tensor for tensor in model.graph.initializer if tensor.name in needed],
        value_info=[value for value in model.graph.value_info if value.name in needed - named],
    )
    part = helper.make_model(
        graph, ir_version=model.ir_version, opset_imports=model.opset_import, producer_name=model.producer_name
    )
    onnx.checker.check_model(part, full_check=True)
    return part


def _declared(model: onnx.ModelProto, outputs: Sequence[Feature]) -> list[onnx.ValueInfoProto]:
    sides = [dimension.dim_value for dimension in model.graph.input[0].type.tensor_type.shape.dim[1:3]]
    computed = {name for node in model.graph.node for name in node.output}
    if missing := [feature.name for feature in outputs if feature.name not in computed]:
        raise ConversionError(f"the graph does not compute {missing[0]}; it is of another network: export it again")
    return [
        helper.make_tensor_value_info(
            feature.name,
            TensorProto.FLOAT,
            ["batch", feature.channels, *(-(-side // feature.stride) for side in sides)],
        )
        for feature in outputs
    ]
