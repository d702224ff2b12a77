"""Files compiled for an NPU: what they say of themselves, and that nobody takes them for portable ones."""

from pathlib import Path

import numpy as np
import pytest
from compiled_files import PROGRAM, compiled, portable_file, stamp

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.records import Artifact, stored_file
from rexnet_export.targets.tflite.compiled import compiled_for, portable, require_same_ends, with_its_labels
from rexnet_export.targets.tflite.flatbuffer import Graph, read_graph
from rexnet_export.targets.tflite.metadata import read_description, require_labels
from rexnet_export.targets.tflite.target import Tflite, open_session


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return portable_file(tmp_path / "small-int8.tflite")


def read(tmp_path: Path, content: bytes) -> Graph:
    path = tmp_path / "compiled.tflite"
    path.write_bytes(content)
    return read_graph(path)


def test_a_portable_file_is_for_no_chip(source: Path) -> None:
    graph = read_graph(source)
    assert compiled_for(graph) is None
    assert portable(graph) is graph


def test_a_whole_file_leaves_nothing_to_the_processor(tmp_path: Path, source: Path) -> None:
    found = compiled_for(read(tmp_path, compiled(source)))
    assert found is not None
    assert (found.vendor, found.chip, found.partitions, dict(found.left)) == ("Qualcomm", "SM8650", 1, {})


def test_operators_outside_the_partitions_are_counted_by_kind(tmp_path: Path, source: Path) -> None:
    found = compiled_for(read(tmp_path, compiled(source, "MT6989", "MediaTek", outside=3)))
    assert found is not None
    assert found.named == "MediaTek MT6989"
    assert dict(found.left) == {"MUL": 1, "MEAN": 1, "DEQUANTIZE": 1}


@pytest.mark.parametrize(
    "content", [stamp("Qualcomm"), stamp("", ""), stamp("a\nb", "c"), stamp("a", "b", "c"), b"\xff"]
)
def test_a_stamp_that_names_no_chip_is_refused(tmp_path: Path, source: Path, content: bytes) -> None:
    graph = read(tmp_path, compiled(source))
    graph.set_metadata({"LiteRtStamp": content})
    with pytest.raises(ConversionError, match="does not say for which"):
        compiled_for(graph)


def test_labels_follow_the_program_again(tmp_path: Path, source: Path) -> None:
    path, content = tmp_path / "compiled.tflite", compiled(source)
    graph = read(tmp_path, content)
    path.write_bytes(with_its_labels(graph, content))
    assert path.read_bytes()[: len(content)] == content, "programs are found by their distance from the start"
    assert content.endswith(PROGRAM)
    require_labels(path, read_description(read_graph(path)))


def test_nothing_executes_or_reads_it_as_a_portable_file(tmp_path: Path, source: Path) -> None:
    path, content = tmp_path / "compiled.tflite", compiled(source)
    path.write_bytes(with_its_labels(read(tmp_path, content), content))
    inspection = Tflite().inspect(Artifact(target="tflite", precision="int8", file=stored_file(path)))
    assert inspection.metadata["precision"] == "int8"
    for ask in (lambda: inspection.coverage, lambda: inspection.qparams, lambda: open_session(path)):
        with pytest.raises(ConversionError, match="compiled for Qualcomm SM8650"):
            ask()


def test_changed_ends_are_named(tmp_path: Path, source: Path) -> None:
    before, graph = read_graph(source), read(tmp_path, compiled(source))
    require_same_ends(before, graph)
    graph.tensor(int(graph.subgraph.inputs[0])).shape = np.array([1, 9, 9, 3], np.int32)
    with pytest.raises(ConversionError, match="changed the input"):
        require_same_ends(before, graph)
