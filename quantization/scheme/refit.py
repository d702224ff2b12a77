"""Taking back a table that a person may have edited: what follows from it is derived again, what cannot be is named."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import onnx

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.quantization.onnx.view import GraphView, model_sha256, view
from rexnet_export.quantization.scheme.scheme import WEIGHTED, plan, shared_params
from rexnet_export.quantization.table.params import QuantParams, for_bias, half_precision_ceiling
from rexnet_export.quantization.table.table import QuantTable, TensorEntry

NAMED = 3


def refitted(model: onnx.ModelProto, table: QuantTable) -> QuantTable:
    """The table as its float model needs it: shared parameters and bias scales follow the tensors they depend on.

    So an edited scale need be changed in one place. A table that is not this model's, or holds what no artifact could
    store, is a `ConversionError` that names the tensors.
    """
    graph = view(model)
    planned = plan(graph)
    _refuse("are not in both the table and the network", sorted(planned.keys() ^ table.tensors.keys()))
    _refuse("do not fit the network", _misfits(graph, planned, table.tensors))
    _refuse("have scales that are no float16 numbers, which Core ML could not store", _not_half(table.tensors))
    if (digest := model_sha256(model)) != table.model_sha256:
        raise ConversionError(
            f"the table belongs to float graph {table.model_sha256[:12]}, not to {digest[:12]}: weights or image size "
            "differ; give what it was made with, or calibrate"
        )
    return replace(table, tensors=_derived(graph, table.tensors))


def _refuse(what: str, names: list[str]) -> None:
    if names:
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        raise ConversionError(f"{', '.join(names[:NAMED])}{more} {what}; calibrate, or correct the table")


def _misfits(graph: GraphView, planned: Mapping[str, TensorEntry], tensors: Mapping[str, TensorEntry]) -> list[str]:
    found = []
    for name, wanted in planned.items():
        entry = tensors[name]
        fits = (
            (entry.decision, entry.source) == (wanted.decision, wanted.source)
            and (wanted.params is None or entry.params == wanted.params)  # what an operator fixes cannot be chosen
            and (name not in graph.constants or _channels(entry) == graph.constants[name].shape[0])
        )
        if not fits and entry.decision != "float":
            found.append(name)
    return found


def _channels(entry: TensorEntry) -> int:
    return len(entry.params.scale) if entry.params is not None and entry.params.axis == 0 else 0


def _not_half(tensors: Mapping[str, TensorEntry]) -> list[str]:
    scales = {name: np.asarray(e.params.scale) for name, e in tensors.items() if e.params and e.params.bits == 8}
    return [name for name, scale in scales.items() if not np.array_equal(half_precision_ceiling(scale), scale)]


def _derived(graph: GraphView, tensors: Mapping[str, TensorEntry]) -> dict[str, TensorEntry]:
    settled = dict(tensors)
    for name, entry in tensors.items():
        if entry.decision == "shared":
            settled[name] = replace(entry, params=shared_params(name, tensors))
    for bias, inputs, weights in _biases(graph, settled):
        settled[bias] = replace(settled[bias], params=for_bias(inputs, weights))
    return settled


def _biases(graph: GraphView, tensors: Mapping[str, TensorEntry]) -> Iterator[tuple[str, QuantParams, QuantParams]]:
    for node in graph.nodes:
        if node.op_type in WEIGHTED:
            source, weights, bias = node.input
            inputs, stored = tensors[source].params, tensors[weights].params
            if inputs is not None and stored is not None:
                yield bias, inputs, stored
