from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.quantization.onnx.simulate import run, simulator
from rexnet_export.quantization.onnx.view import view
from rexnet_export.quantization.scheme.insert_qdq import insert_qdq
from rexnet_export.quantization.search.float_islands import check_islands, with_islands
from rexnet_export.quantization.table.table import QuantTable, TensorEntry
from rexnet_export.quantization.table.table_file import parse_table, table_text

FLOAT = TensorEntry(decision="float", reason="a test")
EXPAND = ("features.3.expand", "features.3.expand.sigmoid", "features.3.expand.silu")


def left(case: SimpleNamespace, *names: str) -> QuantTable:
    return with_islands(case.model, case.table, dict.fromkeys(names, "a test"))


def edited(case: SimpleNamespace, entries: Mapping[str, TensorEntry]) -> QuantTable:
    return replace(case.table, tensors={**case.table.tensors, **entries})


def test_an_island_ends_where_something_outside_reads(v1: SimpleNamespace) -> None:
    table = left(v1, *EXPAND)
    assert table.float_tensors == (
        "features.3.expand",
        "features.3.expand.bias",
        "features.3.expand.sigmoid",
        "features.3.expand.weight",
    )
    assert all(table.tensors[name].reason == "a test" for name in table.float_tensors)
    others = v1.table.tensors.keys() - set(table.float_tensors)
    assert {name: table.tensors[name] for name in others} == {name: v1.table.tensors[name] for name in others}
    check_islands(view(v1.model), table)
    assert parse_table(table_text(table)) == table


def test_neighbours_are_one_island(v1: SimpleNamespace) -> None:
    alone, both = (
        left(v1, "features.1.depthwise", "features.1.relu6"),
        left(v1, "features.1.depthwise", "features.1.relu6", "features.1.project"),
    )
    assert alone.tensors["features.1.relu6"] == v1.table.tensors["features.1.relu6"]
    assert both.tensors["features.1.relu6"].decision == "float"
    assert both.tensors["features.1.depthwise"].decision == "fused"


def test_what_moves_tensors_stays_in_int8_where_an_island_would_end_with_it(v1: SimpleNamespace) -> None:
    pad, add = "features.2.residual.pad", "features.2.residual"
    assert left(v1, pad).float_tensors == ()
    assert pad in left(v1, pad, add).float_tensors
    source = "features.1.project"  # read by the Pad and by the next block: its integers stay for that one
    assert left(v1, source, pad, add).tensors[source] == v1.table.tensors[source]


def test_the_ends_of_the_network_are_never_float(v1: SimpleNamespace) -> None:
    everything = [node.output[0] for node in v1.model.graph.node if node.output[0] in v1.table.tensors]
    table = left(v1, *everything)
    assert [name for name in everything if name not in table.float_tensors and v1.table.tensors[name].params] == [
        "input",
        "logits",
    ]
    assert "logits.weight" in table.float_tensors
    check_islands(view(v1.model), table)
    real, steps = simulator(v1.model, v1.images), table.tensors["logits"].params.scale[0]
    assert np.abs(run(insert_qdq(v1.model, table, "uint8"), v1.images) - real.reference).max() <= 0.51 * steps


@pytest.mark.parametrize("activations", ["int8", "uint8"])
def test_float_operators_read_what_their_neighbours_stored(v1: SimpleNamespace, activations: str) -> None:
    """A Pad that moves integers for nobody else has none: the float one reads its source's, not what they came from."""
    table = left(v1, "features.2.residual.pad", "features.2.residual", "flatten", "logits")
    model = insert_qdq(v1.model, table, activations)
    read = {node.name: node.input[0] for node in model.graph.node if node.op_type in {"Pad", "Flatten"}}
    assert (read["features.2.residual.pad"], read["flatten"]) == ("features.1.project.dq", "pool.dq")
    makers = {node.output[0]: node.op_type for node in model.graph.node}
    for node in model.graph.node:
        if node.op_type == "Conv":
            assert makers[node.input[0]] == "DequantizeLinear", node.name


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"stem": FLOAT}, "stem is float but Conv stem, which touches it, is INT8"),
        ({"stem.silu": FLOAT}, "stem.silu is float but Conv features.0.depthwise"),
        ({"features.0.relu6": FLOAT}, "features.0.depthwise is float but Conv features.0.depthwise"),
        ({"stem.weight": FLOAT}, "stem.weight and stem.bias must both be float"),
        ({"stem.bias": FLOAT}, "stem.weight and stem.bias must both be float"),
        ({"logits": FLOAT, "logits.weight": FLOAT, "logits.bias": FLOAT}, "logits is an end of the network"),
        ({"input": FLOAT}, "input is an end of the network"),
        (
            {"features.1.project": FLOAT, "features.1.project.weight": FLOAT, "features.1.project.bias": FLOAT},
            "features.1.project is float but",
        ),
        ({"pool": FLOAT}, "pool is float but Flatten flatten"),
    ],
)
def test_islands_that_are_not_closed_are_refused(
    v1: SimpleNamespace, entries: dict[str, TensorEntry], said: str
) -> None:
    with pytest.raises(ConversionError) as caught:
        check_islands(view(v1.model), edited(v1, entries))
    assert said in str(caught.value)
