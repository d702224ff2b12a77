"""The slopes of a float network's logits at every tensor, by torch's backward pass: see `calibration.slopes`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor

from rexnet_export.pipeline.machine.heap import give_back
from rexnet_export.pipeline.machine.torch_threads import torch_threads
from rexnet_export.quantization.calibration.observe import TensorStatistics
from rexnet_export.quantization.calibration.sigmoid_limits import spans
from rexnet_export.quantization.calibration.slopes import Slopes, none, summed
from rexnet_export.quantization.learned.torch_graph import Step, steps
from rexnet_export.quantization.onnx.simulate import within
from rexnet_export.quantization.onnx.view import view

PROBES = 2  # backward passes an image
MOST_PIXELS, FEWEST_IMAGES = 2**20, 32  # 256 images at 64 px, 32 at 224
GROUP, GROUP_PIXELS = 16, 2**17  # images whose signs are drawn together


def logit_slopes(
    model: onnx.ModelProto, statistics: Mapping[str, TensorStatistics], images: NDArray[np.uint8]
) -> dict[str, Slopes]:
    """Of every tensor that was observed, from the first of uint8 images [n, S, S, 3] that time allows.

    The random signs are the same in every call, so the same input gives the same slopes.
    """
    graph, names = view(model), list(statistics)
    network, useful, (source,) = steps(graph), spans(graph), graph.inputs
    constants = {
        name: torch.from_numpy(np.array(graph.constants[name])) for step in network for name in step.parameters
    }
    generator = torch.Generator().manual_seed(0)
    few = within(images, MOST_PIXELS, FEWEST_IMAGES)
    rows = [value for value in model.graph.output if _is_row(value)]
    numbers = sum(value.type.tensor_type.shape.dim[1].dim_value for value in rows)

    def of_group(group: NDArray[np.uint8], signs: Tensor) -> dict[str, Slopes]:
        tensors = _computed(network, constants, {source: torch.from_numpy(group)})
        first = [tensor for tensor in tensors.values() if tensor.requires_grad and tensor.is_leaf]
        values = {name: tensors[name].detach().numpy() for name in names}
        found = {name: none(statistics[name]) for name in names}

        def add(name: str, slope: Tensor) -> None:
            squared = slope.square().div_(numbers * PROBES * len(few)).numpy()
            found[name] += summed(values[name], squared, statistics[name], useful.get(name))

        for name in names:
            tensors[name].register_hook(partial(add, name))  # type: ignore[no-untyped-call]
        logits = _alike([tensors[value.name] for value in rows])
        for signed in signs:
            torch.autograd.grad(logits, first, signed, retain_graph=True)
        return found

    size = max(1, min(GROUP, GROUP_PIXELS // math.prod(few.shape[1:3])))
    parts = [few[start : start + size] for start in range(0, len(few), size)]
    signs = [torch.randint(0, 2, (PROBES, len(part), numbers), generator=generator) * 2.0 - 1.0 for part in parts]
    with torch_threads(1) as threads, ThreadPoolExecutor(threads) as pool:
        found = _added(pool.map(of_group, parts, signs))
    give_back()
    return found


def _added(parts: Iterable[Mapping[str, Slopes]]) -> dict[str, Slopes]:
    """Sums by tensor, in the order of the parts."""
    totals: dict[str, Slopes] = {}
    for part in parts:
        totals = {name: totals[name] + slopes if name in totals else slopes for name, slopes in part.items()}
    return totals


def _is_row(value: onnx.ValueInfoProto) -> bool:
    """Whether an output is logits or another head's numbers; a backbone's maps are neither."""
    return len(value.type.tensor_type.shape.dim) == 2


def _alike(outputs: list[Tensor]) -> Tensor:
    """All heads' numbers [N, all] in one unit: the others' are made as large as the logits, so that all count."""
    logits, *others = outputs
    size = logits.detach().square().mean().sqrt()
    sizes = [other.detach().square().mean().sqrt().clamp_min(torch.finfo().tiny) for other in others]
    scaled = [other * (size / own) for other, own in zip(others, sizes, strict=True)]
    return torch.cat([logits, *scaled], dim=1)


def _computed(
    network: Sequence[Step], constants: Mapping[str, Tensor], images: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Every tensor of the network for some images, ready for a backward pass."""
    tensors = dict(images)
    for step in network:
        parameters = [constants[name] for name in step.parameters]
        value = step.compute(*[tensors[name] for name in step.inputs], *parameters)
        tensors[step.output] = value.requires_grad_() if value.is_leaf and value.is_floating_point() else value
    return tensors
