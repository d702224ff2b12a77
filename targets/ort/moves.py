"""What only moves integers in an optimized graph, read as such whatever kernel the optimizer chose for it.

`npu_graph` and `eight_at_once` append channels by convolutions, and the first joins between Q and DQ; ONNX Runtime
makes QLinearConv and QLinearConcat of them. Read as Pad and Concat, the file is the network of the other files: the
same multiplications, the same parameters.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rexnet_export.pipeline.core.errors import ConversionError

if TYPE_CHECKING:
    from rexnet_export.targets.ort.format import Graph, Node

WHITE = 255  # steps above zero: the image's constant channel; others that are appended are zeros
APPENDING = ".appending"  # in the names of weights that copy channels and append others


def as_moves(graph: Graph) -> Graph:
    """The graph with such nodes as Pad and Concat; `ConversionError` where one computes anything."""
    return replace(graph, nodes=tuple(_as_move(node, graph) for node in graph.nodes))


def _as_move(node: Node, graph: Graph) -> Node:
    constant = graph.constants
    if node.op == "QLinearConcat":
        _, zero_point, *parts = node.inputs
        grids = [node.inputs[:2], *(tuple(parts[start + 1 : start + 3]) for start in range(0, len(parts), 3))]
        if all(_same(graph, grid, grids[0]) for grid in grids):
            return replace(node, op="Concat", name=zero_point.removesuffix(".zero_point"), inputs=tuple(parts[::3]))
    if node.op == "QLinearConv" and node.inputs[3].endswith(f"{APPENDING}.weight.q"):
        source, scale, zero_point, weight, weight_scale, weight_zero, *output = node.inputs
        integers = constant[weight].astype(np.int64) - np.reshape(constant[weight_zero].astype(np.int64), (-1, 1, 1, 1))
        steps = constant[weight_scale].astype(np.float64).reshape(-1)
        copies = np.einsum("oihw,o->oi", integers, steps)
        bias = constant[output[2]].astype(np.float64) if len(output) > 2 else np.zeros(len(copies))
        added = bias * steps
        appended = ~copies.any(axis=1)
        copied = np.array_equal(copies[~appended], np.eye(copies.shape[1])) and not added[~appended].any()
        alone = integers.shape[2:] == (1, 1)  # a larger kernel with the same sums moves pixels
        plain = set(added[appended]) in ({0.0}, {WHITE})
        if not (alone and copied and plain and _behind(appended)) or not _same(
            graph, (scale, zero_point), tuple(output[:2])
        ):
            raise ConversionError(f"{weight}: the file changes channels that it is to copy; export the model again")
        return replace(node, op="Pad", name=output[1].removesuffix(".zero_point"), inputs=(source,))
    return node


def _behind(appended: NDArray[np.bool_]) -> bool:
    """Whether appended channels stand behind all others, or one behind each of as many groups."""
    rows, (places,) = len(appended), appended.nonzero()
    each = np.arange(1, len(places) + 1)
    return any(np.array_equal(places, last) for last in (rows - len(places) + each - 1, each * rows / len(places) - 1))


def _same(graph: Graph, one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    return all(
        np.array_equal(graph.constants[name], graph.constants[beside]) for name, beside in zip(one, other, strict=True)
    )
