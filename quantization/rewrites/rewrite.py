"""Carrying out the exact rewrites of a float graph that a table names.

A rewrite leaves the float function as it is and makes the tensors easier to quantize.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import onnx

from rexnet_export.quantization.rewrites.group_channels import group_channels
from rexnet_export.quantization.rewrites.scale_channels import scale_channels
from rexnet_export.quantization.table.rewrites import ChannelGrouping, ChannelScaling, Rewrite


def apply(model: onnx.ModelProto, rewrites: Sequence[Rewrite]) -> onnx.ModelProto:
    """The float model after all rewrites in order; a copy, and equal arguments give equal bytes."""
    return reduce(_applied, rewrites, model)


def _applied(model: onnx.ModelProto, rewrite: Rewrite) -> onnx.ModelProto:
    match rewrite:
        case ChannelScaling():
            return scale_channels(model, rewrite)
        case ChannelGrouping():
            return group_channels(model, rewrite)
