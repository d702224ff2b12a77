"""ReXNet as a backbone: what its stages give at strides 4, 8, 16 and 32, in torch and as an ONNX graph.

The outputs are those of the last block before each halving of the resolution (and of the last of all), residual
included, before any activation: the paper's detectors read these, and timm's `features_only` gives the same.
"""

from __future__ import annotations

from torch import Tensor, nn

from rexnet_export.pipeline.core.records import Feature
from rexnet_export.pipeline.model.architecture import Architecture
from rexnet_export.pipeline.model.rexnet import LinearBottleneck, ReXNet

STEM_STRIDE = 2
FIRST_STRIDE = 4


def last_blocks(spec: Architecture) -> dict[int, int]:
    """By stride 4, 8, 16 and 32, the index of the last block that works at it."""
    found, stride = {}, STEM_STRIDE
    for index, block in enumerate(spec.blocks):
        stride *= block.stride
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
        for stride, index in last_blocks(spec).items()
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
        """[N, 3, S, S] normalised -> [N, C, S / stride, S / stride] for strides 4, 8, 16, 32; S a multiple of 16."""
        wanted, found = set(last_blocks(self.spec).values()), []
        x = self.act(self.stem(x))
        for index, block in enumerate(self.features):
            x = block(x)
            if index in wanted:
                found.append(x)
        return tuple(found)


def named_outputs(network: ReXNet | Backbone, x: Tensor) -> dict[str, Tensor]:
    """What leaves a network on normalised [N, C, H, W], by ONNX tensor name: heads' outputs or a backbone's maps."""
    if isinstance(network, Backbone):
        return {output.name: values for output, values in zip(network.outputs, network(x), strict=True)}
    return network.outputs(x)
