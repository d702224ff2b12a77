"""The slopes of a float network's logits at every tensor, by torch's backward pass: see `calibration.slopes`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor

from rexnet_export.quantization.calibration.observe import TensorStatistics
from rexnet_export.quantization.calibration.sigmoid_limits import spans
from rexnet_export.quantization.calibration.slopes import Slopes, summed
from rexnet_export.quantization.learned.torch_graph import steps
from rexnet_export.quantization.onnx.simulate import groups, within
from rexnet_export.quantization.onnx.view import GraphView, view

PROBES = 2  # backward passes an image
MOST_PIXELS, FEWEST_IMAGES = 2**20, 32  # 256 images at 64 px, 32 at 224


def logit_slopes(
    model: onnx.ModelProto, statistics: Mapping[str, TensorStatistics], images: NDArray[np.uint8]
) -> dict[str, Slopes]:
    """Of every tensor that was observed, from the first of uint8 images [n, S, S, 3] that time allows.

    The random signs are the same in every call, so the same input gives the same slopes.
    """
    graph, names = view(model), list(statistics)
    useful = spans(graph)
    generator = torch.Generator().manual_seed(0)
    few = within(images, MOST_PIXELS, FEWEST_IMAGES)
    totals: dict[str, Slopes] = {}
    for group in groups(few):
        tensors = _computed(graph, group)
        logits = tensors[model.graph.output[0].name]
        values = [tensors[name] for name in names]
        for probe in range(PROBES):
            signs = torch.randint(0, 2, logits.shape, generator=generator) * 2.0 - 1.0
            found = torch.autograd.grad(logits, values, signs, retain_graph=probe + 1 < PROBES, materialize_grads=True)
            for name, value, slope in zip(names, values, found, strict=True):
                squared = (slope.square() / (logits.shape[1] * PROBES * len(few))).numpy()
                part = summed(value.detach().numpy(), squared, statistics[name], useful.get(name))
                totals[name] = totals[name] + part if name in totals else part
    return totals


def _computed(graph: GraphView, images: NDArray[np.uint8]) -> dict[str, Tensor]:
    """Every tensor of the network for some images, ready for a backward pass."""
    (source,) = graph.inputs
    tensors = {source: torch.from_numpy(images)}
    for step in steps(graph):
        parameters = [torch.from_numpy(np.array(graph.constants[name])) for name in step.parameters]
        value = step.compute(*[tensors[name] for name in step.inputs], *parameters)
        tensors[step.output] = value.requires_grad_() if value.is_leaf and value.is_floating_point() else value
    return tensors
