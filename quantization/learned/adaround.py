"""Learned weight rounding: which weights become the second nearest integer, so that layers answer more exactly.

AdaRound (Nagel et al. 2020, "Up or Down? Adaptive Rounding for Post-Training Quantization"): layer by layer, the
squared error of a layer's output on calibration images is minimised over a soft choice between both neighbours of
every weight, which a regulariser drives to one of them. Inputs come from the quantized layers before it.

A layer is linear, so its mean squared error over all images and positions is a quadratic form in the change of its
weights, and the inputs' second moments are its matrix. They are computed once, and no step has to look at an image
again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from rexnet_export.pipeline.core.progress import Progress
from rexnet_export.quantization.learned.fake_quant import INPUT, FakeQuantNetwork
from rexnet_export.quantization.learned.torch_graph import Step, last_uses
from rexnet_export.quantization.onnx.simulate import within
from rexnet_export.quantization.table.params import WEIGHT_MAX
from rexnet_export.quantization.table.rounding_mask import mask_text
from rexnet_export.quantization.table.table import QuantTable

MOST_PIXELS = 2**20  # of all images together, for memory: 256 images at 64 px and 20 at 224
PATCHED = 16  # images whose patches are in memory at once
ROUNDS = 200
RATE = 0.05
WARM_UP = 0.2  # share of the rounds before the regulariser begins
SHARPEST, SOFTEST = 2.0, 20.0  # exponents of the regulariser, annealed from soft to sharp
STRENGTH = 0.2
LEAST_GAIN = 1e-4  # where a weight at its nearest integer costs 1/12 on average: far above what float32 mistakes
TOP, BOTTOM = 1.1, -0.1  # what the sigmoid is stretched to and clipped from, so that it reaches 1 and 0


@torch.no_grad()
def learn_rounding(
    model: onnx.ModelProto, table: QuantTable, images: NDArray[np.uint8], progress: Progress
) -> QuantTable:
    """The table with learned rounding of all weights, from uint8 images [N, S, S, 3].

    Takes the first images as far as memory allows. The result depends on its arguments alone; older rounding is
    replaced, corrections of biases are taken as they are.
    """
    plain = {name: replace(entry, rounding=None) for name, entry in table.tensors.items()}
    network = FakeQuantNetwork(model, replace(table, tensors=plain))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network.to(device)
    few = torch.from_numpy(within(images, MOST_PIXELS)).to(device)
    real, quantized = {INPUT: few}, {INPUT: few}
    with progress.stage("learning to round", sum(bool(step.parameters) for step in network.steps), "layers") as bar:
        for step, forgotten in zip(network.steps, last_uses(network.steps), strict=True):
            real[step.output] = network.float_output(step, real)
            if step.parameters and network.table.tensors[step.parameters[0]].params:
                _round_layer(network, step, quantized, real[step.output])
                bar.advance(1)
            quantized[step.output] = network.run(step, quantized)
            for name in forgotten:
                del real[name], quantized[name]
    return network.table


def _round_layer(network: FakeQuantNetwork, step: Step, inputs: dict[str, Tensor], wanted: Tensor) -> None:
    """Choose the layer's rounding, and go on with it."""
    weight, bias = step.parameters
    real, source = network.real(weight), inputs[step.inputs[0]]
    error = wanted - step.compute(source, real, network.stored(bias))
    mask = rounded_otherwise(_moments(step, source, error, real), real, _scales(network, weight))
    if mask.any():
        table = network.table
        entry = replace(table.tensors[weight], rounding=mask_text(mask.cpu().numpy()))
        network.adopt(replace(table, tensors={**table.tensors, weight: entry}))


def _scales(network: FakeQuantNetwork, weight: str) -> Tensor:
    params, real = network.table.tensors[weight].params, network.real(weight)
    assert params is not None
    return torch.tensor(params.scale, dtype=torch.float64, device=real.device).view([-1] + [1] * (real.ndim - 1))


@dataclass(frozen=True, kw_only=True)
class Moments:
    """For each of G groups: second moments of its inputs [G, d, d], and with the output error still there [G, O, d]."""

    inputs: Tensor
    with_error: Tensor


def _moments(step: Step, source: Tensor, error: Tensor, weight: Tensor) -> Moments:
    """Second moments of a layer's patches, shrunk to their diagonal as far as there are too few patches for them."""
    groups, size = step.geometry.get("groups", 1), weight[0].numel()
    square = torch.zeros(groups, size, size, dtype=torch.float64, device=source.device)
    cross = torch.zeros(groups, len(weight) // groups, size, dtype=torch.float64, device=source.device)
    count = 0
    for patches, missing in _patches(step, source, error, weight):
        square += patches.mT @ patches
        cross += missing.mT @ patches
        count += patches.shape[1]
    kept = count / (count + size)
    diagonal = torch.diag_embed(square.diagonal(dim1=1, dim2=2))
    return Moments(inputs=torch.lerp(diagonal, square, kept) / count, with_error=kept * cross / count)


def _patches(step: Step, source: Tensor, error: Tensor, weight: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """What each output is computed from [G, positions, d], and what is missing there [G, positions, O], in pieces."""
    groups = step.geometry.get("groups", 1)
    for first in range(0, len(source), PATCHED):
        few, missing = source[first : first + PATCHED], error[first : first + PATCHED]
        if step.op == "Conv":
            geometry = {key: step.geometry[key] for key in ("stride", "padding", "dilation")}
            yield _grouped(functional.unfold(few, weight.shape[2:], **geometry), groups), _grouped(missing, groups)
        else:
            yield few.unsqueeze(0).double(), missing.unsqueeze(0).double()


def _grouped(values: Tensor, groups: int) -> Tensor:
    """[N, G * d, ...] -> [G, N * positions, d]."""
    n, channels = values.shape[:2]
    split = values.reshape(n, groups, channels // groups, -1)
    return split.permute(1, 0, 3, 2).reshape(groups, -1, channels // groups).double()


def rounded_otherwise(moments: Moments, weight: Tensor, scale: Tensor) -> Tensor:
    """Which weights become the second nearest integer: boolean, in the weight's shape; scales broadcast to it."""
    steps = weight.double() / scale
    low = steps.floor().clamp(-WEIGHT_MAX, WEIGHT_MAX - 1)
    shape = moments.with_error.shape
    fraction = (steps - low).view(shape)
    # In steps, and so that what rounding to nearest costs is about 1/12 for the mean weight of every layer.
    power = moments.inputs.diagonal(dim1=1, dim2=2).mean(1).clamp(min=torch.finfo(torch.float32).tiny)
    inputs = (moments.inputs / power.view(-1, 1, 1)).float()
    error = (moments.with_error / scale.view(shape[0], shape[1], 1) / power.view(-1, 1, 1)).float()
    nearest = (torch.round(steps) - low).view(shape).float()
    chosen = _optimised(inputs, error, fraction.float())

    def cost(up: Tensor) -> Tensor:
        change = up - fraction.float()
        return (change * (change @ inputs - 2 * error)).sum(2, keepdim=True)

    better = cost(chosen) < cost(nearest)
    exact = fraction == fraction.round()  # nothing to choose
    return ((chosen != nearest) & better & ~exact).view(weight.shape)


def _optimised(inputs: Tensor, error: Tensor, fraction: Tensor) -> Tensor:
    """0 (down) or 1 (up) for each weight [G, O, d], from where it stands between them."""
    soft = torch.logit((fraction - BOTTOM) / (TOP - BOTTOM)).requires_grad_()
    optimizer = torch.optim.Adam([soft], lr=RATE)
    for count in range(ROUNDS):
        progress = max(0.0, (count / ROUNDS - WARM_UP) / (1 - WARM_UP))
        exponent = SHARPEST + (SOFTEST - SHARPEST) * (1 - progress)
        with torch.enable_grad():
            up = (torch.sigmoid(soft) * (TOP - BOTTOM) + BOTTOM).clamp(0, 1)
            slope = (up.detach() - fraction) @ inputs - error
            loss = (2 * slope * up).sum()
            if progress > 0:
                loss = loss + STRENGTH * (1 - (2 * up - 1).abs().pow(exponent)).sum()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return _descended((up.detach() >= 0.5).float(), inputs, error, fraction)


def _descended(up: Tensor, inputs: Tensor, error: Tensor, fraction: Tensor) -> Tensor:
    """Turn, in every output channel, the one weight that helps most, until none helps: what annealing left undone."""
    slope = (up - fraction) @ inputs - error
    curvature = inputs.diagonal(dim1=1, dim2=2).unsqueeze(1)
    for _ in range(up.shape[2]):
        turn = 1 - 2 * up
        gain, index = (turn * (2 * slope + turn * curvature)).min(2, keepdim=True)
        turned = turn.gather(2, index) * (gain < -LEAST_GAIN)
        if not turned.any():
            break
        up = up.scatter_add(2, index, turned)
        slope += turned * torch.stack([matrix[at] for matrix, at in zip(inputs, index.squeeze(2), strict=True)])
    return up
