"""ReXNet as a backbone: what its stages give at strides 4, 8, 16 and 32, in torch and as an ONNX graph.

The outputs are those of the last block before each halving of the resolution (and of the last of all), residual
included, before any activation: the paper's detectors read these, and timm's `features_only` gives the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import TensorProto, helper
from torch import Tensor, nn

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.records import Feature
from rexnet_export.pipeline.model.rexnet import BLOCK_STRIDES, Architecture, LinearBottleneck, ReXNet

STEM_STRIDE = 2
FIRST_STRIDE = 4


def last_blocks() -> dict[int, int]:
    """By stride 4, 8, 16 and 32, the index of the last block that works at it."""
    found, stride = {}, STEM_STRIDE
    for index, step in enumerate(BLOCK_STRIDES):
        stride *= step
        found[stride] = index
    return {stride: index for stride, index in found.items() if stride >= FIRST_STRIDE}


def features(spec: Architecture) -> tuple[Feature, ...]:
    """The outputs of a network's backbone, the finest first, by the names they have in its float graph."""
    return tuple(
        Feature(
            name=f"features.{index}.{'residual' if spec.blocks[index].residual else 'project'}",
            stride=stride,
            channels=spec.blocks[index].outputs,
        )
        for stride, index in last_blocks().items()
    )


class Backbone(nn.Module):
    """A network without its head; shares its modules, so that training one trains the other."""

    def __init__(self, network: ReXNet) -> None:
        super().__init__()
        self.spec = network.spec
        self.stem = network.stem
        self.act = network.act
        self.features = nn.Sequential(*(m for m in network.features if isinstance(m, LinearBottleneck)))

    @property
    def outputs(self) -> tuple[Feature, ...]:
        """What `forward` gives, in its order."""
        return features(self.spec)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """[N, 3, S, S] normalised -> [N, C, S / stride, S / stride] for strides 4, 8, 16, 32; S a multiple of 32."""
        wanted, found = set(last_blocks().values()), []
        x = self.act(self.stem(x))
        for index, block in enumerate(self.features):
            x = block(x)
            if index in wanted:
                found.append(x)
        return tuple(found)


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
    size = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    computed = {name for node in model.graph.node for name in node.output}
    if missing := [feature.name for feature in outputs if feature.name not in computed]:
        raise ConversionError(f"the graph does not compute {missing[0]}; it is of another network: export it again")
    return [
        helper.make_tensor_value_info(
            feature.name,
            TensorProto.FLOAT,
            ["batch", feature.channels, size // feature.stride, size // feature.stride],
        )
        for feature in outputs
    ]
