"""The part of a table that a graph with fewer outputs needs."""

from __future__ import annotations

from dataclasses import replace

import onnx

from rexnet_export.quantization.onnx.view import model_sha256, view
from rexnet_export.quantization.rewrites.rewrite import apply
from rexnet_export.quantization.scheme.scheme import plan
from rexnet_export.quantization.table.table import QuantTable


def narrowed(table: QuantTable, model: onnx.ModelProto) -> QuantTable:
    """The part of a table, made for a float graph with more behind it, that the cut graph `model` needs."""
    computed = {name for node in model.graph.node for name in node.output}
    rewrites = tuple(rewrite for rewrite in table.rewrites if rewrite.tensor in computed)
    rewritten = apply(model, rewrites)
    needed = plan(view(rewritten))
    return replace(
        table,
        tensors={name: entry for name, entry in table.tensors.items() if name in needed},
        rewrites=rewrites,
        model_sha256=model_sha256(rewritten),
    )
