"""The network as it is computed fastest: every BatchNorm in the convolution before it, activations in place."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from rexnet_export.pipeline.model.conv_batchnorm import ConvBatchNorm
from rexnet_export.pipeline.model.rexnet import SqueezeExcite

ACTIVATIONS = (nn.SiLU, nn.ReLU6)  # each on what nothing else reads: what a layer or a gate gives
CONVOLUTIONS: Mapping[type[nn.Module], str] = {ConvBatchNorm: "conv", SqueezeExcite: "fc1"}


def folded[Network: nn.Module](network: Network) -> Network:
    """A copy in eval mode whose BatchNorms are in the convolutions before them: the same numbers but for rounding.

    It is for inference alone, as its activations overwrite what they are given.
    """
    copy = deepcopy(network).eval()
    for module in list(copy.modules()):
        if isinstance(module, ACTIVATIONS):
            module.inplace = True
        elif (name := CONVOLUTIONS.get(type(module))) is not None:
            convolution, normalization = module.get_submodule(name), module.get_submodule("bn")
            assert isinstance(convolution, nn.Conv2d)
            if isinstance(normalization, nn.BatchNorm2d):
                module.add_module(name, fuse_conv_bn_eval(convolution, normalization))
                module.add_module("bn", nn.Identity())
    return copy
