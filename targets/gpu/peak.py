"""What the device can do at most, measured on the spot, and what the network asks of it: the roofline.

No table of cards: a large product and a large copy say what this one does today, at the clocks it has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from rexnet_export.pipeline.core.records import Preprocess
from rexnet_export.pipeline.model.rexnet import ReXNet
from rexnet_export.pipeline.timing.blocks import timed
from rexnet_export.targets.gpu.forms import Machine, Numbers
from rexnet_export.targets.gpu.torch_forms import TYPES, rounding

SMALLEST_SIDE, LARGEST_SIDE = 128, 8192  # of square factors
COPIED = {"cuda": 2**30, "cpu": 2**27}  # bytes, beyond any cache
ENOUGH_S = 0.02  # of one run: launching it is nothing beside it
COUNTED, DROPPED = 5, 1
BYTES: Mapping[Numbers, int] = {"float32": 4, "tf32": 4, "fp16": 2, "bf16": 2, "int8": 1}


@dataclass(frozen=True, kw_only=True)
class Layer:
    """What a convolution or a linear layer does for an image: products, and numbers read, written and of weights."""

    macs: int
    activations: int
    weights: int


def layers(network: ReXNet, preprocess: Preprocess) -> tuple[Layer, ...]:
    """Those of the network on one image, in the order in which they run."""
    found: list[Layer] = []

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d | nn.Linear)
        found.append(
            Layer(
                macs=output[0].numel() * module.weight[0].numel(),
                activations=inputs[0][0].numel() + output[0].numel(),
                weights=module.weight.numel(),
            )
        )

    hooks = [
        module.register_forward_hook(count) for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    try:
        with torch.inference_mode():
            network(torch.zeros(1, preprocess.channels, *preprocess.shape))
    finally:
        for hook in hooks:
            hook.remove()
    return tuple(found)


def roofline_s(work: Sequence[Layer], images: int, size: int, flops: float, bandwidth: float) -> float:
    """Seconds that a batch takes at least: each layer waits for its arithmetic or for its memory, whichever is slower.

    `flops` and `bandwidth` are the device's, a second; `size` is a number's bytes. Williams, Waterman, Patterson,
    Communications of the ACM 52 (2009) 65-76. Activations count as read and written once by every layer, all between
    layers as free: fusing across layers could be faster.
    """
    return sum(
        max(2 * layer.macs * images / flops, size * (layer.activations * images + layer.weights) / bandwidth)
        for layer in work
    )


def product_flops(numbers: Numbers, machine: Machine) -> float:
    """Floating-point operations a second in products of ever larger square matrices: the most that any reached.

    They end at 8192, or where one takes long enough: a processor without bfloat16 units needs seconds for little.
    """
    most, side = 0.0, SMALLEST_SIDE
    with rounding(tf32=numbers == "tf32"):
        while side <= LARGEST_SIDE:
            factors = [torch.randn(side, side, device=machine.device).to(TYPES[numbers]) for _ in range(2)]
            spent = _fastest_s(partial(torch.matmul, *factors), machine)
            most = max(most, 2 * side**3 / spent)
            side = 2 * side if spent < ENOUGH_S else LARGEST_SIDE + 1
    return most


def copy_bandwidth(machine: Machine) -> float:
    """Bytes a second that are read and written in a copy on the device."""
    source = torch.zeros(COPIED[machine.device.type], dtype=torch.uint8, device=machine.device)
    target = torch.empty_like(source)
    return 2 * source.numel() / _fastest_s(lambda: target.copy_(source), machine)


@torch.inference_mode()
def _fastest_s(work: Callable[[], object], machine: Machine) -> float:
    """The shortest of several runs: what is asked for is what the device can do."""

    def finished() -> None:
        work()
        if machine.is_gpu:
            torch.cuda.synchronize(machine.device)

    return min(timed(finished, COUNTED, DROPPED)) / 1e9
