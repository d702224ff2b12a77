"""Tensors without a grid of their own: the same in the graph and in the file, and nothing else goes unread."""

from collections.abc import Mapping
from pathlib import Path

import onnx
import pytest
from shared import ArtifactOf

from rexnet_export.pipeline.artifact.target import Source
from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.records import Precision
from rexnet_export.pipeline.proof.read_back import differences
from rexnet_export.quantization.onnx.view import view
from rexnet_export.quantization.table.table import QuantTable
from rexnet_export.targets.openvino import lower as lowering
from rexnet_export.targets.openvino.grids import inside_silu, without_grid
from rexnet_export.targets.openvino.ir import read_ir
from rexnet_export.targets.openvino.session import open_session
from rexnet_export.targets.openvino.target import Openvino

type Sources = Mapping[Precision, Source]
TARGET = Openvino()


def table_of(source: Source) -> QuantTable:
    assert source.table
    return source.table


def silus(model: onnx.ModelProto) -> dict[str, str]:
    """What goes into a SiLU and its sigmoid, and the SiLU."""
    made = {node.output[0]: node for node in model.graph.node}
    found = {}
    for node in model.graph.node:
        if node.op_type == "Mul" and made[node.input[1]].op_type == "Sigmoid":
            sigmoid = made[node.input[1]]
            if sigmoid.input[0] == node.input[0]:
                found |= dict.fromkeys(node.input, node.output[0])
    return found


@pytest.mark.parametrize("form", ["plain", "grouped"])
def test_every_silu_of_a_file_has_one_grid(artifact_of: ArtifactOf, request: pytest.FixtureRequest, form: str) -> None:
    sources: Sources = request.getfixturevalue(f"{form}_sources")
    model = onnx.load(sources["int8"].float_onnx.path)
    inside = inside_silu(read_ir(artifact_of("openvino", "int8", form).file.path))
    assert inside == silus(model)
    moved = {node.output[0] for node in model.graph.node if node.op_type in {"Pad", "Concat", "Flatten"}}
    moved -= {"input.constant_channel"}
    assert without_grid(view(model), table_of(sources["int8"])) == inside.keys() | moved
    assert moved <= TARGET.inspect(artifact_of("openvino", "int8", form)).qparams.keys()


def test_what_something_else_reads_keeps_its_grid(sources: Sources) -> None:
    model = onnx.load(sources["int8"].float_onnx.path)
    table = table_of(sources["int8"])
    assert {"stem", "stem.sigmoid"} <= without_grid(view(model), table)
    model.graph.output.add().name = "stem"
    assert without_grid(view(model), table).isdisjoint({"stem", "stem.sigmoid"})


@pytest.mark.parametrize("missing", ["features.1.project", "features.2.relu6"])
def test_a_grid_that_no_rule_leaves_out_is_missed(
    sources: Sources, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, missing: str
) -> None:
    monkeypatch.setattr(lowering, "without_grid", lambda graph, table: without_grid(graph, table) | {missing})
    with pytest.raises(ConversionError, match=rf"{missing}: the table says .*, the file None; report this model"):
        TARGET.convert(sources["int8"], tmp_path, "a")


def test_a_file_with_a_grid_behind_every_tensor_is_read_as_ever(
    sources: Sources, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(lowering, "without_grid", lambda *_: frozenset())
    artifact = TARGET.convert(sources["int8"], tmp_path, "a")
    inspection = TARGET.inspect(artifact)
    assert inspection.inside == {}
    assert inspection.altered == []
    table = table_of(sources["int8"])
    wanted = {name for name, entry in table.tensors.items() if entry.params is not None}
    assert inspection.qparams.keys() == wanted
    assert differences(table, inspection.qparams, inspection.inside) == []
    assert inspection.coverage.int8_mac_fraction == 1
    assert inspection.coverage.float_ops == ()
    assert set(open_session(artifact.file.path).products().values()) <= {"u8", "i8"}
