"""The quantized network in torch, with gradients: every tensor is rounded as the table says, and trained as if not.

Values are those of the QDQ graph that `quantization.qdq` writes from the same table. Backwards, rounding counts as
the identity (straight-through estimator, Bengio et al. 2013), and what saturates gets no gradient.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from rexnet_export.pipeline.torch_graph import Step, last_uses, steps
from rexnet_export.quantization.graph import view
from rexnet_export.quantization.qparams import INT8_MAX, INT8_MIN, QuantParams
from rexnet_export.quantization.scheme import SHARING, rescaled
from rexnet_export.quantization.table import QuantTable

MOVING = SHARING | {"Concat", "Transpose"}  # what moves integers has nothing to round
INPUT = "image"


class FakeQuantNetwork(nn.Module):
    """A float graph run with the table's rounding: uint8 [N, S, S, 3] pixels -> float32 logits [N, classes].

    Parameters are the float graph's weights and biases; `integers` says what they are stored as.
    """

    def __init__(self, model: onnx.ModelProto, table: QuantTable) -> None:
        super().__init__()
        self._graph = graph = view(model)
        self.steps = steps(graph)
        self.table = table
        self._model = model
        self._forgotten = last_uses(self.steps)
        self._output = model.graph.output[0].name
        self._names = names = [name for step in self.steps for name in step.parameters]
        self.real = nn.ParameterDict({_key(name): torch.from_numpy(graph.constants[name].copy()) for name in names})
        self.adopt(table)

    def adopt(self, table: QuantTable) -> None:
        """Go on with another table of the same graph."""
        self.table = table
        for name in self._names:
            params = table.tensors[name].params
            if params is None:
                continue
            real = self.real[_key(name)].detach()
            shape = [-1] + [1] * (real.ndim - 1)
            scale = torch.tensor(params.scale, dtype=torch.float64, device=real.device).view(shape)
            # Where integers are not the nearest ones (learned rounding, corrected biases), by how much they differ.
            integers = table.integers(name, real.cpu().numpy())
            shift = torch.from_numpy(integers).to(scale) - torch.round(real.double() / scale)
            self.register_buffer(f"{_key(name)}:scale", scale, persistent=False)
            self.register_buffer(f"{_key(name)}:shift", shift, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Tensors are forgotten as soon as no later step reads them."""
        values = {INPUT: images}
        for step, forgotten in zip(self.steps, self._forgotten, strict=True):
            values[step.output] = self.run(step, values)
            for name in forgotten:
                del values[name]
        return values[self._output]

    def activations(self, images: Tensor) -> dict[str, Tensor]:
        """Every tensor by its ONNX name, as forward computes it."""
        values = {INPUT: images}
        for step in self.steps:
            values[step.output] = self.run(step, values)
        return values

    def run(self, step: Step, values: Mapping[str, Tensor]) -> Tensor:
        """One step's output from the tensors before it, rounded where the table has it so."""
        computed = step.compute(*(values[name] for name in step.inputs), *map(self.stored, step.parameters))
        entry = self.table.tensors.get(step.output)
        if entry is None or entry.params is None or step.op in MOVING:
            return computed
        return fake_quantize(computed, entry.params)

    def stored(self, name: str) -> Tensor:
        """A weight or bias as the artifacts hold it: the real number its integer stands for."""
        real, params = self.real[_key(name)], self.table.tensors[name].params
        if params is None:
            return real
        scale, shift = self.get_buffer(f"{_key(name)}:scale"), self.get_buffer(f"{_key(name)}:shift")
        rounded: Tensor = _RoundParameter.apply(real, scale, shift, params.bits)  # type: ignore[no-untyped-call]
        return rounded

    def float_output(self, step: Step, values: Mapping[str, Tensor]) -> Tensor:
        """One step's output in the float network."""
        parameters = (self.real[_key(name)] for name in step.parameters)
        return step.compute(*(values[name] for name in step.inputs), *parameters)

    def named_reals(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Weights and biases by ONNX name."""
        return ((name, self.real[_key(name)]) for name in self._names)

    def model(self) -> onnx.ModelProto:
        """The float graph with the present weights and biases."""
        trained = onnx.ModelProto()
        trained.CopyFrom(self._model)
        values = {name: to_numpy(real) for name, real in self.named_reals()}
        for tensor in trained.graph.initializer:
            if tensor.name in values:
                tensor.CopyFrom(numpy_helper.from_array(values[tensor.name], tensor.name))
        return trained

    def follow(self) -> None:
        """Derive the parameters' scales from the present weights; those of activations stay."""
        trained = {name: to_numpy(real) for name, real in self.named_reals()}
        self.adopt(rescaled(replace(self._graph, constants={**self._graph.constants, **trained}), self.table))


def fake_quantize(real: Tensor, params: QuantParams) -> Tensor:
    """Round an activation to the grid of one scale and zero point."""
    rounded: Tensor = _RoundActivation.apply(real, params.scale[0], params.zero_point[0])  # type: ignore[no-untyped-call]
    return rounded


class _RoundActivation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, real: Tensor, scale: float, zero_point: int) -> Tensor:
        low, high = INT8_MIN - zero_point, INT8_MAX - zero_point
        steps_from_zero = torch.round(real / scale)
        ctx.save_for_backward((steps_from_zero >= low) & (steps_from_zero <= high))
        return steps_from_zero.clamp_(low, high).mul_(scale)

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, None, None]:
        (inside,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return gradient * inside, None, None


class _RoundParameter(torch.autograd.Function):
    """In float64, as the integers in the artifacts are made; scales follow the weights, so none is out of range."""

    @staticmethod
    def forward(ctx: FunctionCtx, real: Tensor, scale: Tensor, shift: Tensor, bits: int) -> Tensor:  # noqa: ARG004
        limit = 2.0 ** (bits - 1)
        integers = (torch.round(real.double() / scale) + shift).clamp_(-limit, limit - 1)
        return integers.float() * scale.float()

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, None, None, None]:  # noqa: ARG004
        return gradient, None, None, None


def _key(name: str) -> str:
    # torch keeps "." for modules inside modules.
    return name.replace(".", ":")


def to_numpy(tensor: Tensor) -> NDArray[np.float32]:
    """A float tensor's values."""
    values: NDArray[np.float32] = tensor.detach().cpu().numpy()
    return values
