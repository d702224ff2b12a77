"""Where every weight of a rewritten graph comes from, so that trained ones can go back.

Exact rewrites move weights and multiply them, no more. So a graph whose weights are their own addresses says, once it
is rewritten, where each one came from, and a graph of ones by how much each one was multiplied. Addresses are written
in two digits: so small a number is read exactly, whatever factor it was multiplied by in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.quantization.onnx.view import view
from rexnet_export.quantization.rewrites.rewrite import apply
from rexnet_export.quantization.scheme.scheme import WEIGHTED
from rexnet_export.quantization.table.rewrites import Rewrite

type Real = NDArray[np.float32]

BASE = 2**12
MOST_WEIGHTS = BASE**2  # of one tensor: addresses of two digits


@dataclass(frozen=True, kw_only=True)
class Origin:
    """A rewritten parameter is `tensor` at the flat positions `index`, times `factor` (both of its own shape)."""

    tensor: str
    index: NDArray[np.int64]
    factor: NDArray[np.float64]


def origins(model: onnx.ModelProto, rewrites: Sequence[Rewrite]) -> dict[str, Origin]:
    """Origin of each weight and bias of the rewritten graph; what a rewrite has added has none."""
    names = _parameters(model)
    numbers = {name: 2 + position for position, name in enumerate(names)}  # 1 is what an added constant comes to
    constants = view(model).constants
    if big := [name for name in names if constants[name].size >= MOST_WEIGHTS]:
        raise ConversionError(f"{big[0]} has {constants[big[0]].size} weights, too many to be fine-tuned here")

    def rewritten(fill: Callable[[str], NDArray[Any]]) -> Mapping[str, Real]:
        return view(apply(_filled(model, {name: fill(name) for name in names}), rewrites)).constants

    def digits(divisor: int) -> Mapping[str, Real]:
        return rewritten(
            lambda name: (np.arange(constants[name].size) // divisor % BASE + 1).reshape(constants[name].shape)
        )

    factors, high, low = rewritten(lambda name: np.ones(constants[name].shape)), digits(BASE), digits(1)
    tensors = rewritten(lambda name: np.full(constants[name].shape, numbers[name]))
    found = {}
    for name in _parameters(apply(model, rewrites)):
        factor = factors[name].astype(np.float64)
        if not (tensors[name] > factors[name]).all():
            continue
        (number,) = np.unique(_whole(tensors[name] / factor))
        index = BASE * (_whole(high[name] / factor) - 1) + _whole(low[name] / factor) - 1
        found[name] = Origin(tensor=names[int(number) - 2], index=index, factor=factor)
    return found


def _whole(near: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.rint(near).astype(np.int64)


def restored(
    model: onnx.ModelProto, found: Mapping[str, Origin], trained: Mapping[str, NDArray[np.floating]]
) -> dict[str, Real]:
    """The weights and biases of the graph before it was rewritten, from those of the rewritten graph.

    Rewritten again they are the same, but for float32's last digits where a factor is no power of two.
    """
    constants = view(model).constants
    before: dict[str, Real] = {name: np.array(constants[name]) for name in _parameters(model)}
    for name, origin in found.items():
        before[origin.tensor].flat[origin.index.ravel()] = (trained[name] / origin.factor).astype(np.float32).ravel()
    return before


def _parameters(model: onnx.ModelProto) -> list[str]:
    return [name for node in model.graph.node if node.op_type in WEIGHTED for name in node.input[1:3]]


def _filled(model: onnx.ModelProto, values: Mapping[str, NDArray[Any]]) -> onnx.ModelProto:
    filled = onnx.ModelProto()
    filled.CopyFrom(model)
    for tensor in filled.graph.initializer:
        if tensor.name in values:
            tensor.CopyFrom(numpy_helper.from_array(values[tensor.name].astype(np.float32), tensor.name))
    return filled
