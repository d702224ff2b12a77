"""Bias correction: removing from every layer's output the mean shift that quantization causes.

Rounding does not average out within a channel. What remains is, for each layer, a constant that the layer's bias can
take up (Nagel et al. 2019, section 4.2, here with measured means). What clipping takes is no such constant: it is much
for few values, which a bias could only spread over all. So the float network is compared as the table clips it.

It does not always help, and at times more in the depthwise layers alone: held-back images decide between none, these
and all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from rexnet_export.quantization.onnx.partial_run import Walk
from rexnet_export.quantization.onnx.simulate import Score, Simulator, within
from rexnet_export.quantization.onnx.view import GraphView, view
from rexnet_export.quantization.scheme.insert_qdq import QdqGraphs, insert_qdq
from rexnet_export.quantization.scheme.scheme import WEIGHTED
from rexnet_export.quantization.search.choose_ranges import Trial, preferred, score_of
from rexnet_export.quantization.table.params import BIAS_MAX, INT8_MAX, INT8_MIN
from rexnet_export.quantization.table.table import QuantTable, TensorEntry

MOST_PIXELS = 2**21  # of all images together: what bounds the memory, 512 images at 64 px and 41 at 224


@dataclass(frozen=True, kw_only=True)
class Correction:
    """The table with the corrections that held-back images preferred, and what was tried."""

    table: QuantTable
    best: str
    trials: tuple[Trial, ...]

    @property
    def score(self) -> Score:
        """The best one's on all held-back images."""
        return score_of(self.best, self.trials)


def choose_correction(
    model: onnx.ModelProto, table: QuantTable, images: NDArray[np.uint8], judge: Simulator
) -> Correction:
    """Correct no layer, the depthwise ones or all from calibration `images`, whichever `judge` prefers."""
    nodes = [node for node in model.graph.node if node.op_type in WEIGHTED]
    depthwise = [node.output[0] for node in nodes if _groups(node) > 1]
    few = within(images, MOST_PIXELS)
    means = _float_means(model, table, few, [node.output[0] for node in nodes])
    tables = {
        "uncorrected": table,
        "depthwise corrected": _swept(model, table, few, {name: means[name] for name in depthwise}),
        "all corrected": _swept(model, table, few, means),
    }
    graphs = QdqGraphs(model)
    scores = {name: judge.score(graphs.of(tried, "uint8")) for name, tried in tables.items()}
    best = preferred(scores, len(judge.images))
    trials = tuple(Trial(name=name, score=score) for name, score in scores.items())
    return Correction(table=tables[best], best=best, trials=trials)


def correct_biases(
    model: onnx.ModelProto, table: QuantTable, images: NDArray[np.uint8], layers: Collection[str]
) -> QuantTable:
    """The table with a correction for the bias of each of `layers`, from calibration images uint8 [N, S, S, 3].

    One sweep in the order of execution: each layer is compared with its predecessors already quantized and corrected.
    Takes the first images as far as memory allows; older corrections in the table are replaced.
    """
    few = within(images, MOST_PIXELS)
    return _swept(model, table, few, _float_means(model, table, few, layers))


def _float_means(
    model: onnx.ModelProto, table: QuantTable, images: NDArray[np.uint8], layers: Collection[str]
) -> dict[str, NDArray[np.float64]]:
    """By layer, the channel means that a sweep aims at; before any, so that one network is in memory at a time."""
    return dict(_means(Walk(clipped(model, table), images), layers))


def _swept(
    model: onnx.ModelProto, table: QuantTable, images: NDArray[np.uint8], wanted: Mapping[str, NDArray[np.float64]]
) -> QuantTable:
    table = replace(table, tensors={name: replace(entry, correction=None) for name, entry in table.tensors.items()})
    quantized, graph = Walk(insert_qdq(model, table, "uint8"), images), view(model)
    corrected = dict(table.tensors)
    nodes = [node for node in model.graph.node if node.op_type in WEIGHTED]
    for node, at in zip(nodes, _weighted(quantized.model), strict=True):
        if node.output[0] not in wanted:
            continue
        quantized.advance(at + 1)
        output, bias = quantized.model.graph.node[at].output[0], node.input[2]
        shift = wanted[node.output[0]] - _channel_means(quantized, output)
        corrected[bias] = _corrected(corrected[bias], graph.constants[bias], shift)
        _add(quantized, output, _effect(corrected[bias], bias, graph, table))
    return replace(table, tensors=corrected)


def clipped(model: onnx.ModelProto, table: QuantTable) -> onnx.ModelProto:
    """The float model with every observed activation kept within what its integers in the table can stand for."""
    graph = view(model)
    inside = onnx.ModelProto()
    inside.CopyFrom(model)
    del inside.graph.node[:]
    renamed: dict[str, str] = {}
    for node in model.graph.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = [renamed.get(name, name) for name in node.input]
        inside.graph.node.append(copy)
        output = node.output[0]
        entry = table.tensors.get(output)
        if entry is None or entry.decision != "observed" or output in graph.outputs:
            continue
        assert entry.params is not None
        params = entry.params
        names = [f"{output}.least", f"{output}.most"]
        for name, end in zip(names, (INT8_MIN, INT8_MAX), strict=True):
            value = np.array((end - params.zero_point[0]) * params.scale[0], np.float32)
            inside.graph.initializer.append(numpy_helper.from_array(value, name))
        renamed[output] = f"{output}.clipped"
        inside.graph.node.append(helper.make_node("Clip", [output, *names], [renamed[output]]))
    return inside


def _groups(node: onnx.NodeProto) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)


def _weighted(model: onnx.ModelProto) -> list[int]:
    return [index for index, node in enumerate(model.graph.node) if node.op_type in WEIGHTED]


def _means(walk: Walk, layers: Collection[str]) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """The outputs of layers with their channel means, one after the other as the walk comes by."""
    for at in _weighted(walk.model):
        output = walk.model.graph.node[at].output[0]
        if output in layers:
            walk.advance(at + 1)
            yield output, _channel_means(walk, output)


def _channel_means(walk: Walk, name: str) -> NDArray[np.float64]:
    """Mean per channel (axis 1) over all images and positions."""
    sums = [group[name].sum(axis=tuple(range(2, group[name].ndim)), dtype=np.float64) for group in walk.held]
    positions = walk.held[0][name][0, 0].size
    means: NDArray[np.float64] = np.concatenate(sums).mean(axis=0) / positions
    return means


def _corrected(entry: TensorEntry, bias: NDArray[np.floating], shift: NDArray[np.float64]) -> TensorEntry:
    """The entry with its correction, zero in channels where it would leave the integers that biases may take."""
    assert entry.params is not None
    steps = np.abs(bias + shift) / np.asarray(entry.params.scale)
    return replace(entry, correction=tuple(np.where(steps <= BIAS_MAX, shift, 0.0).tolist()))


def _effect(entry: TensorEntry, bias: str, graph: GraphView, table: QuantTable) -> NDArray[np.float64]:
    """What a corrected bias really adds to its channels, once both are rounded to integers."""
    assert entry.params is not None
    real = graph.constants[bias]
    with_correction = replace(table, tensors={bias: entry}).integers(bias, real)
    effect: NDArray[np.float64] = (with_correction - table.integers(bias, real)) * np.asarray(entry.params.scale)
    return effect


def _add(walk: Walk, name: str, effect: NDArray[np.float64]) -> None:
    """Shift the channels of a held tensor, as the corrected bias would have."""
    for group in walk.held:
        values = group[name]
        shape = (1, -1, *[1] * (values.ndim - 2))
        group[name] = values + effect.astype(np.float32).reshape(shape)
