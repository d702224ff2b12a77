"""Hard twins of a trained ReXNet: networks that compute the same, or nearly, but are far harder to quantize.

`chain_twin` and `squeeze_twin` are the same function, rescaled where the network is linear or positively
homogeneous. `spread_twin` and `gate_twin` rescale channels ahead of SiLU and of the gate, which is not exact, and
need to be `settled` to come back to the original's accuracy.
"""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rexnet_export.pipeline.core.records import Preprocess
from rexnet_export.pipeline.model.conv_batchnorm import ConvBatchNorm
from rexnet_export.pipeline.model.rexnet import LinearBottleneck, ReXNet


def chain_twin(network: ReXNet, seed: int = 0, spread: float = 16.0) -> ReXNet:
    """Channels of every residual chain times log-uniform [1/spread, spread]; the same function.

    A residual block adds its input to its leading channels, so these take over the input's factors.
    """
    twin, random = deepcopy(network).eval(), np.random.default_rng(seed)
    blocks = _blocks(twin)
    consumers = [block.conv_exp.conv for block in blocks[1:]] + [_penultimate(twin).conv]
    chain = torch.empty(0)
    for block, consumer in zip(blocks, consumers, strict=True):
        shared = chain if block.block.residual else chain[:0]
        fresh = _log_uniform(block.block.outputs - len(shared), 1 / spread, spread, random)
        chain = torch.cat([shared, fresh])
        _scale_outputs(block.conv_pwl.bn, chain)
        _scale_inputs(consumer, 1 / chain)
    return twin


def squeeze_twin(network: ReXNet, seed: int = 0, spread: float = 16.0) -> ReXNet:
    """Channels inside squeeze-excitation, ahead of ReLU, times log-uniform [1/spread, spread]; the same function."""
    twin, random = deepcopy(network).eval(), np.random.default_rng(seed)
    for block in _blocks(twin):
        if block.block.squeeze:
            factors = _log_uniform(block.block.squeeze, 1 / spread, spread, random)
            _scale_outputs(block.se.bn, factors)
            _scale_inputs(block.se.fc2, 1 / factors)
    return twin


def spread_twin(network: ReXNet, seed: int = 0, low: float = 1 / 2, high: float = 24.0) -> ReXNet:
    """Expanded channels ahead of the activation times log-uniform [low, high], the depthwise kernels divided by it.

    SiLU is not homogeneous: the function changes.
    """
    twin, random = deepcopy(network).eval(), np.random.default_rng(seed)
    for block in _blocks(twin):
        if block.block.expands:
            factors = _log_uniform(block.block.expanded, low, high, random)
            _scale_outputs(block.conv_exp.bn, factors)
            _scale_outputs(block.conv_dw.conv, 1 / factors)
    return twin


def gate_twin(network: ReXNet, seed: int = 0, low: float = 1 / 2, high: float = 24.0) -> ReXNet:
    """Depthwise outputs ahead of the gate times log-uniform [low, high] f, the gate lowered to about 1/f.

    Exact for the squeeze. The gate sigmoid(z - ln f) is f times smaller where it is small; at z = 0 the gated
    channel is 2 f / (1 + f) times the original's, which the projection takes back. Elsewhere the function changes.
    """
    twin, random = deepcopy(network).eval(), np.random.default_rng(seed)
    for block in _blocks(twin):
        if block.block.squeeze:
            factors = _log_uniform(block.block.expanded, low, high, random)
            _scale_outputs(block.conv_dw.bn, factors)
            _scale_inputs(block.se.fc1, 1 / factors)
            _scale_inputs(block.conv_pwl.conv, (1 + factors) / (2 * factors))
            with torch.no_grad():
                _bias(block.se.fc2).sub_(factors.log())
    return twin


def combined(network: ReXNet, seed: int = 0) -> ReXNet:
    """Spread and gate twin within the blocks, chain and squeeze twin around and inside them."""
    return chain_twin(squeeze_twin(gate_twin(spread_twin(network, seed), seed), seed), seed)


@torch.no_grad()
def settled(twin: ReXNet, images: NDArray[np.uint8], preprocess: Preprocess, *, batch: int = 64) -> ReXNet:
    """The twin with BatchNorm statistics of uint8 [n, S, S, 3] images, in batches, under its own activations.

    Every channel of every normalised layer thereby gets the mean and variance it had in the original, which is all
    that a changed activation needs: of a point of accuracy lost, nearly all comes back.
    """
    settled = deepcopy(twin)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (preprocess.mean, preprocess.std))
    for module in settled.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # the plain average of what is seen
            module.train()
    for start in range(0, len(images) - batch + 1, batch):
        settled((torch.from_numpy(images[start : start + batch]).permute(0, 3, 1, 2).float() / 255 - mean) / std)
    return settled.eval()


def _blocks(network: ReXNet) -> list[LinearBottleneck]:
    return [module for module in network.features if isinstance(module, LinearBottleneck)]


def _penultimate(network: ReXNet) -> ConvBatchNorm:
    last = network.features[-1]
    assert isinstance(last, ConvBatchNorm)
    return last


def _log_uniform(count: int, low: float, high: float, random: np.random.Generator) -> Tensor:
    return torch.from_numpy(np.exp(random.uniform(np.log(low), np.log(high), count)).astype(np.float32))


@torch.no_grad()
def _scale_outputs(module: nn.BatchNorm2d | nn.Conv2d, factors: Tensor) -> None:
    """What a BatchNorm, or a convolution (output channels first), gives, times one factor per channel."""
    module.weight.mul_(factors.view(-1, *[1] * (module.weight.ndim - 1)))
    if module.bias is not None:
        module.bias.mul_(factors)


@torch.no_grad()
def _scale_inputs(conv: nn.Conv2d, factors: Tensor) -> None:
    conv.weight.mul_(factors.view(1, -1, 1, 1))


def _bias(conv: nn.Conv2d) -> Tensor:
    assert conv.bias is not None
    return conv.bias
