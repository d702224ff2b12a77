"""The quantized network in torch, with gradients: every tensor is rounded as the table says, and trained as if not.

Values are those of the QDQ graph that `quantization.scheme.insert_qdq` writes from the same table. Backwards, rounding
counts as the identity (straight-through estimator, Bengio et al. 2013), and what saturates gets no gradient.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from rexnet_export.quantization.learned.torch_graph import Step, last_uses, steps
from rexnet_export.quantization.onnx.view import view
from rexnet_export.quantization.scheme.scheme import SHARING, rescaled
from rexnet_export.quantization.table.params import INT8_MAX, INT8_MIN, LEVELS, QuantParams
from rexnet_export.quantization.table.table import QuantTable

MOVING = SHARING | {"Concat", "Transpose"}  # what moves integers has nothing to round
INPUT = "image"


class FakeQuantNetwork(nn.Module):
    """A float graph run with the table's rounding: uint8 [N, S, S, 3] pixels -> float32 logits [N, classes].

    Its parameters are the float graph's weights and biases, those of a channel counted in units near their largest
    size, so that one learning rate suits channels of every size. Units are powers of two: nothing is rounded by them.
    """

    def __init__(self, model: onnx.ModelProto, table: QuantTable) -> None:
        super().__init__()
        self._graph = graph = view(model)
        self.steps = steps(graph)
        self._model = model
        self._forgotten = last_uses(self.steps)
        self._output = model.graph.output[0].name
        self.table = table
        self.parameter_names = tuple(name for step in self.steps for name in step.parameters)
        self.value = nn.ParameterDict()
        for step in self.steps:
            for name, unit in zip(step.parameters, self._units(step), strict=bool(step.parameters)):
                self.value[_key(name)] = torch.tensor(graph.constants[name]) / unit
                self.register_buffer(f"{_key(name)}:unit", unit, persistent=False)
                self._place(name)

    def _units(self, step: Step) -> tuple[Tensor, ...]:
        """Of a weight, by channel, what the largest is just below; of a bias an eighth of the output's range."""
        if not step.parameters:
            return ()
        weight = torch.tensor(self._graph.constants[step.parameters[0]])
        entry = self.table.tensors[step.output]
        params = entry.params or self.table.tensors[str(entry.source)].params if entry.decision != "float" else None
        largest = weight.flatten(1).abs().amax(1).view([-1] + [1] * (weight.ndim - 1))
        range_of_output = torch.tensor(params.scale[0] * LEVELS if params else 1.0)
        return _power_of_two(largest), _power_of_two(range_of_output / 8)

    def adopt(self, table: QuantTable) -> None:
        """Go on with another table of the same graph."""
        changed = [name for name in self.parameter_names if table.tensors[name] is not self.table.tensors[name]]
        self.table = table
        for name in changed:
            self._place(name)

    def _place(self, name: str) -> None:
        """Hold a parameter's scales, and by how much its integers differ from the nearest ones."""
        entry, real = self.table.tensors[name], self.real(name).detach()
        if entry.params is None:
            return
        shape = [-1] + [1] * (real.ndim - 1)
        scale = torch.tensor(entry.params.scale, dtype=torch.float64, device=real.device).view(shape)
        shift = torch.zeros((), device=real.device)
        if entry.rounding is not None or entry.correction is not None:
            shift = torch.from_numpy(self.table.integers(name, to_numpy(real))).to(scale) - torch.round(real / scale)
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
        real, params = self.real(name), self.table.tensors[name].params
        if params is None:
            return real
        scale, shift = self.get_buffer(f"{_key(name)}:scale"), self.get_buffer(f"{_key(name)}:shift")
        rounded: Tensor = _RoundParameter.apply(real, scale, shift, params.bits)
        return rounded

    def float_output(self, step: Step, values: Mapping[str, Tensor]) -> Tensor:
        """One step's output in the float network."""
        return step.compute(*(values[name] for name in step.inputs), *map(self.real, step.parameters))

    def real(self, name: str) -> Tensor:
        """A weight or bias before it is rounded."""
        real: Tensor = self.value[_key(name)] * self.get_buffer(f"{_key(name)}:unit")
        return real

    def freeze(self, names: Collection[str]) -> None:
        """Leave weights and biases as they are, and as they are stored."""
        for name in names:
            self.value[_key(name)].requires_grad_(requires_grad=False)

    def model(self) -> onnx.ModelProto:
        """The float graph with the present weights and biases."""
        trained = onnx.ModelProto()
        trained.CopyFrom(self._model)
        values = self._reals()
        for tensor in trained.graph.initializer:
            if tensor.name in values:
                tensor.CopyFrom(numpy_helper.from_array(values[tensor.name], tensor.name))
        return trained

    def follow(self) -> None:
        """Derive the parameters' scales from the present weights; those of activations stay."""
        graph = replace(self._graph, constants={**self._graph.constants, **self._reals()})
        tensors = dict(rescaled(graph, self.table).tensors)
        for name in self.parameter_names:
            if not self.value[_key(name)].requires_grad:
                tensors[name] = self.table.tensors[name]
        self.adopt(replace(self.table, tensors=tensors))

    def _reals(self) -> dict[str, NDArray[np.float32]]:
        return {name: to_numpy(self.real(name)) for name in self.parameter_names}


def fake_quantize(real: Tensor, params: QuantParams) -> Tensor:
    """Round an activation to the grid of one scale and zero point."""
    rounded: Tensor = _RoundActivation.apply(real, params.scale[0], params.zero_point[0])
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
        integers = (torch.round(real / scale) + shift).clamp_(-limit, limit - 1)
        return integers.float() * scale.float()

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, None, None, None]:  # noqa: ARG004
        return gradient, None, None, None


def _power_of_two(sizes: Tensor) -> Tensor:
    """The next one above each size; 1 for zero."""
    return torch.where(sizes > 0, torch.exp2(sizes.log2().floor() + 1), 1.0)


def _key(name: str) -> str:
    # torch keeps "." for modules inside modules.
    return name.replace(".", ":")


def to_numpy(tensor: Tensor) -> NDArray[np.float32]:
    """A float tensor's values."""
    values: NDArray[np.float32] = tensor.detach().cpu().numpy()
    return values
