"""How many dimensions a trained network's features really use, layer by layer, on real images.

Features of a layer are a matrix of channels by (images x pixels), as in the paper's section 3; its singular values come
from the channels' float64 Gram matrix, which grows with the channels alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from rexnet_export.apps.study.common.bottleneck_network import (
    BottleneckNetwork,
    cost_of,
    is_saved_network,
    load_network,
)
from rexnet_export.pipeline.checkpoint.load import load
from rexnet_export.pipeline.core.errors import CheckpointError, UsageError
from rexnet_export.pipeline.core.progress import Progress
from rexnet_export.pipeline.core.records import RGB, Preprocess, Size
from rexnet_export.pipeline.data.sources import ImageSource, batches
from rexnet_export.pipeline.machine.torch_threads import torch_threads
from rexnet_export.pipeline.model.normalize import Normalize
from rexnet_export.pipeline.model.rexnet import Cost, LinearBottleneck, ReXNet, cost

BATCH = 64
TOLERANCE = 1e-3


@dataclass(frozen=True, kw_only=True)
class LayerRank:
    """Singular values (largest first, of features divided by the root of their number) and what they come to.

    `rank` counts those above the tolerance times the largest; `effective_rank` is exp of the entropy of their shares
    (Roy and Vetterli 2007); `nuclear_norm` is their sum.
    """

    layer: str
    channels: int
    block: bool
    rank: int
    effective_rank: float
    nuclear_norm: float
    singular_values: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class NetworkRanks:
    """All layers of one network; `stages` are its blocks' outputs."""

    name: str
    file: str
    cost: Cost
    top1: float | None
    layers: tuple[LayerRank, ...]

    @property
    def stages(self) -> tuple[LayerRank, ...]:
        """The outputs of the blocks, and what the classifier pools."""
        return tuple(layer for layer in self.layers if layer.block)


def open_network(reference: str) -> tuple[ReXNet | BottleneckNetwork, Preprocess, tuple[str, ...] | None]:
    """A ReXNet checkpoint or a network that `rexnet-study control` trained, its preprocessing and its labels."""
    if is_saved_network(Path(reference)):
        return load_network(Path(reference))
    loaded = load(reference)
    if loaded.network.spec.channels != RGB:
        raise UsageError(f"{reference} takes {loaded.network.spec.channels} channels: name a network of photos")
    return loaded.network, loaded.preprocess or Preprocess(), loaded.labels


def network_ranks(
    reference: str, source: ImageSource, indices: Sequence[int], tolerance: float, progress: Progress
) -> NetworkRanks:
    """Run the chosen images through the network and decompose what every layer says."""
    network, preprocess, labels = open_network(reference)
    truth = source.labels if labels is not None and labels == source.class_names else None
    grams: dict[str, Tensor] = {}
    counted: dict[str, int] = {}

    def gather(name: str, y: Tensor) -> None:
        matrix = y.double().transpose(0, 1).flatten(1)
        grams[name] = grams.get(name, 0) + matrix @ matrix.T
        counted[name] = counted.get(name, 0) + matrix.shape[1]

    watched = _watched(network)
    for name, module in watched.items():
        module.register_forward_hook(lambda _m, _x, y, name=name: gather(name, y))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network.to(device)
    normalize = Normalize(preprocess, device)
    right, done = 0, 0
    with torch.inference_mode(), progress.stage(Path(reference).name, len(indices), "images") as bar:
        for pixels in batches(source, preprocess, indices, BATCH):
            guesses = network(normalize(torch.from_numpy(pixels))).argmax(1).tolist()
            if truth is not None:
                seen = indices[done : done + len(pixels)]
                right += sum(truth[index] == guess for index, guess in zip(seen, guesses, strict=True))
            done += len(pixels)
            bar.advance(len(pixels))
    return NetworkRanks(
        name=network.spec.name if isinstance(network, ReXNet) else network.plan.name,
        file=Path(reference).name,
        cost=_cost(network, preprocess.size),
        top1=None if truth is None else right / done,
        layers=tuple(
            _layer(name, isinstance(watched[name], LinearBottleneck), gram / counted[name], tolerance)
            for name, gram in grams.items()
        ),
    )


def _cost(network: ReXNet | BottleneckNetwork, size: Size) -> Cost:
    if isinstance(network, ReXNet):
        return cost(network.spec, size)
    if not isinstance(size, int):
        raise CheckpointError(f"{network.plan.name} is of square images, not of {size[0]} x {size[1]}; train it again")
    return cost_of(network.plan, size)


def _watched(network: ReXNet | BottleneckNetwork) -> dict[str, nn.Module]:
    """Stem; expanded (activated), depthwise and block outputs; the last convolution."""
    watched: dict[str, nn.Module] = {"stem": network.stem}
    for index, module in enumerate(network.features):
        name = f"features.{index}"
        if isinstance(module, LinearBottleneck):
            if module.block.expands:
                watched[f"{name}.expand"] = module.act_exp
            watched[f"{name}.depthwise"] = module.conv_dw
        watched[name] = module
    return watched


def _layer(name: str, block: bool, gram: Tensor, tolerance: float) -> LayerRank:  # noqa: FBT001
    # On a busy machine threads within such small matrices wait for one another: 18 s for 1,000 channels, not 0.1.
    with torch_threads(1):
        values = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt().flip(0)
    shares = values / values.sum().clamp(min=torch.finfo(values.dtype).tiny)
    entropy = -(shares * shares.clamp(min=torch.finfo(values.dtype).tiny).log()).sum()
    return LayerRank(
        layer=name,
        channels=len(values),
        block=block,
        rank=int((values > tolerance * values[0]).sum()),
        effective_rank=entropy.exp().item(),
        nuclear_norm=values.sum().item(),
        singular_values=tuple(values.tolist()),
    )
