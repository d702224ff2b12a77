"""What stands on the pooled features: one head or several, each a linear layer or some with an activation between."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

from rexnet_export.pipeline.core.outputs import HEAD, LOGITS
from rexnet_export.pipeline.core.records import Activation
from rexnet_export.pipeline.model.conv_batchnorm import ConvBatchNorm

ACTIVATION_MODULES: Mapping[Activation, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "silu": nn.SiLU,
    "hardswish": nn.Hardswish,
    "tanh": nn.Tanh,
}
OTHERS = "head.others."
OTHER_SUFFIX = "_out"  # of a head's module: torch refuses names that modules have already, such as `type`
DROPOUT = 0.2

type Layers = nn.Linear | nn.Sequential


@dataclass(frozen=True, kw_only=True)
class OtherHead:
    """A further head on the pooled features: the channels of its hidden layers, and the numbers it gives."""

    name: str
    outputs: int
    hidden: tuple[int, ...] = ()


def head_layers(features: int, hidden: Sequence[int], outputs: int, activation: Activation) -> Layers:
    """A linear layer, or hidden ones with the activation behind each in front of it."""
    if not hidden:
        return nn.Linear(features, outputs)
    layers: list[nn.Module] = []
    for before, after in pairwise([features, *hidden]):
        layers += [nn.Linear(before, after), ACTIVATION_MODULES[activation]()]
    return nn.Sequential(*layers, nn.Linear(hidden[-1], outputs))


def linear_layers(layers: Layers) -> tuple[nn.Linear, ...]:
    """The linear ones of a head, in order."""
    return tuple(layer for layer in layers.modules() if isinstance(layer, nn.Linear))


class Head(nn.Module):
    """The classifier, and other heads beside it; `neck` is ReXNet-lite's layer in front of them."""

    def __init__(
        self,
        features: int,
        classes: int,
        hidden: Sequence[int],
        activation: Activation,
        others: Sequence[OtherHead],
        neck: ConvBatchNorm | None,
    ) -> None:
        super().__init__()
        if neck is not None:
            self.neck = neck
        self.width = features
        self.activation = activation
        self.dropout = nn.Dropout(DROPOUT)
        self.fc = head_layers(features, hidden, classes, activation)
        if others:
            modules = {each.name: head_layers(features, each.hidden, each.outputs, activation) for each in others}
            self.others = nn.ModuleDict({f"{name}{OTHER_SUFFIX}": layers for name, layers in modules.items()})

    def named(self) -> Iterator[tuple[str, Layers]]:
        """The heads by the ONNX tensor that each gives, the logits first."""
        yield LOGITS, self.fc
        for name, layers in self.others.items() if hasattr(self, "others") else ():
            assert isinstance(layers, nn.Linear | nn.Sequential)
            yield f"{HEAD}{name.removesuffix(OTHER_SUFFIX)}", layers

    def forward(self, pooled: Tensor) -> dict[str, Tensor]:
        """[N, C, 1, 1] -> logits [N, classes] and what other heads give, by ONNX tensor name."""
        if hasattr(self, "neck"):
            pooled = functional.relu6(self.neck(pooled))
        pooled = self.dropout(pooled.flatten(1))
        return {name: layers(pooled) for name, layers in self.named()}
