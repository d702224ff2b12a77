"""Folded weights back in a ReXNet, whose float graph then has exactly these weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rexnet_export.pipeline.model.conv_batchnorm import ConvBatchNorm
from rexnet_export.pipeline.model.rexnet import LinearBottleneck, ReXNet

STEM = frozenset({"stem.weight", "stem.bias"})


@torch.no_grad()
def refolded(network: ReXNet, constants: Mapping[str, NDArray[Any]]) -> ReXNet:
    """A copy of the network with the folded weights and biases `constants` (by ONNX name), except the stem's.

    Every BatchNorm becomes one that adds the bias and multiplies by 1 within 2^-25, so that folding it in float64 and
    rounding to float32 gives each weight as it was. The stem's own weights also hold the normalisation of the image
    in the graph, and cannot be taken back; the copy keeps the network's.
    """
    copy = deepcopy(network)
    for name, (layer, norm) in _layers(copy):
        weight, bias = (torch.from_numpy(np.array(constants[f"{name}.{kind}"])) for kind in ("weight", "bias"))
        layer.weight.copy_(weight)
        if norm is None:
            _bias(layer).copy_(bias)
            continue
        if layer.bias is not None:
            layer.bias.zero_()
        _identity(norm)
        _bias(norm).copy_(bias)
    return copy


def _identity(norm: nn.BatchNorm2d) -> None:
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    mean.zero_()
    variance.fill_(1 - norm.eps)
    norm.weight.fill_(1)


def _bias(module: nn.Module) -> Tensor:
    assert isinstance(module.bias, Tensor)
    return module.bias


type _Layer = nn.Conv2d | nn.Linear


def _layers(network: ReXNet) -> Iterator[tuple[str, tuple[_Layer, nn.BatchNorm2d | None]]]:
    """Layers but the stem by the name of their node in the float graph, with the BatchNorm folded into them."""
    for index, module in enumerate(network.features):
        if isinstance(module, LinearBottleneck):
            for name, found in _block_layers(module):
                yield f"features.{index}.{name}", found
        elif isinstance(module, ConvBatchNorm):
            yield "penultimate", (module.conv, module.bn)
    if hasattr(network.head, "neck"):
        yield "neck", (network.head.neck.conv, network.head.neck.bn)
    assert isinstance(network.head.fc, nn.Linear), "trained in INT8 are networks with one linear layer as head"
    yield "logits", (network.head.fc, None)


def _block_layers(block: LinearBottleneck) -> Iterator[tuple[str, tuple[_Layer, nn.BatchNorm2d | None]]]:
    if block.block.expands:
        yield "expand", (block.conv_exp.conv, block.conv_exp.bn)
    yield "depthwise", (block.conv_dw.conv, block.conv_dw.bn)
    if block.block.squeeze:
        yield "squeeze", (block.se.fc1, block.se.bn)
        yield "excite", (block.se.fc2, None)
    yield "project", (block.conv_pwl.conv, block.conv_pwl.bn)
