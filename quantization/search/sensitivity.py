"""Which tensors INT8 hurts most: each one quantized alone, and the whole network with just that one left in float."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from rexnet_export.pipeline.core.records import Measurement, NotMeasured
from rexnet_export.quantization.onnx.partial_run import Walk
from rexnet_export.quantization.onnx.simulate import Score, Simulator, compare
from rexnet_export.quantization.onnx.view import view
from rexnet_export.quantization.scheme.insert_qdq import QdqGraphs
from rexnet_export.quantization.scheme.scheme import WEIGHTED
from rexnet_export.quantization.table.params import QuantParams
from rexnet_export.quantization.table.table import QuantTable, TensorEntry

PIXELS, FEWEST_IMAGES = 2**17, 8  # 32 images at 64 px, 8 at 224
LOUDEST = 24  # tensors that are also left out of the whole, which takes longer and says little of quiet ones
QUIET = NotMeasured(reason=f"quieter alone than {LOUDEST} others")
OWN = frozenset({"observed", "fixed", "weights"})  # decisions of tensors whose parameters are not another's
FLOAT = TensorEntry(decision="float", reason="left out to see what the others do")


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """What a tensor does to the logits: with only it in INT8, and with all in INT8 but it."""

    tensor: str
    only: Score
    all_but: Measurement[Score]


def sensitivities(
    model: onnx.ModelProto, table: QuantTable, judge: Simulator, advance: Callable[[int], None]
) -> tuple[Sensitivity, ...]:
    """Every activation and every layer's weights that the table quantizes, the most damaging alone first.

    The first of the judge's images are enough to rank them; `advance` is called for each tensor.
    """
    judge = judge.within(PIXELS, FEWEST_IMAGES)
    alone = {}
    for name, score in _alone(model, table, judge):
        alone[name] = score
        advance(1)
    alone = dict(sorted(alone.items(), key=lambda pair: pair[1].sqnr_db))
    followers, graphs = _followers(model, table), QdqGraphs(model)

    def all_but(name: str) -> Score:
        tensors = {each: FLOAT if each in followers[name] else entry for each, entry in table.tensors.items()}
        return judge.score(graphs.of(replace(table, tensors=tensors), "uint8"))

    return tuple(
        Sensitivity(tensor=name, only=only, all_but=all_but(name) if rank < LOUDEST else QUIET)
        for rank, (name, only) in enumerate(alone.items())
    )


def ranked_tensors(model: onnx.ModelProto, table: QuantTable) -> frozenset[str]:
    """What is ranked: weights in INT8, and activations in INT8 whose parameters are their own, but for the image."""
    images = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    return frozenset(n for n, entry in table.tensors.items() if entry.decision in OWN and n not in images)


def _alone(model: onnx.ModelProto, table: QuantTable, judge: Simulator) -> Iterator[tuple[str, Score]]:
    """Each tensor in INT8 and the rest of the network in float; what shares its parameters moves its integers."""
    walk = Walk(model, judge.images)
    constants, ranked = view(model).constants, ranked_tensors(model, table)
    for position, node in enumerate(model.graph.node):
        if node.op_type in WEIGHTED and (name := node.input[1]) in ranked:
            walk.advance(position)
            weights = _params(table, name).dequantize(table.integers(name, constants[name])).astype(np.float32)
            logits = walk.finish(_with(walk.next_piece(), name, weights))(walk.held)
            yield name, compare(judge.reference, logits)
        if (name := node.output[0]) in ranked:
            walk.advance(position + 1)
            params = _params(table, name)
            held = [group | {name: params.rounded(group[name])} for group in walk.held]
            yield name, compare(judge.reference, walk.finish(walk.next_piece())(held))


def _params(table: QuantTable, name: str) -> QuantParams:
    params = table.tensors[name].params
    assert params is not None, "what is ranked is in INT8"
    return params


def _with(model: onnx.ModelProto, name: str, values: NDArray[np.float32]) -> onnx.ModelProto:
    """The model with other values in one constant, in place."""
    (constant,) = (tensor for tensor in model.graph.initializer if tensor.name == name)
    constant.CopyFrom(numpy_helper.from_array(values, name))
    return model


def _followers(model: onnx.ModelProto, table: QuantTable) -> dict[str, frozenset[str]]:
    """By tensor: itself, and all that have its parameters or, for weights, the bias beside them."""
    biases = {node.input[2]: node.input[1] for node in model.graph.node if node.op_type in WEIGHTED}
    found: dict[str, set[str]] = {}
    for name in table.tensors:
        root = biases.get(name, name)
        while (entry := table.tensors[root]).decision == "shared":
            root = str(entry.source)
        found.setdefault(root, set()).add(name)
    # Parts of one Concat whose parameters are fixed have them each for itself, but can only leave INT8 together.
    for node in model.graph.node:
        parts = [name for name in node.input if name in found] if node.op_type == "Concat" else []
        together = set().union(*(found[name] for name in parts))
        found |= dict.fromkeys(parts, together)
    return {root: frozenset(names) for root, names in found.items()}
