"""Every reader of files that come from elsewhere, by name: what reads a file, and the errors that it promises."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

from rexnet_export.apps.bench.runner import array_file
from rexnet_export.apps.bench.runner.archive import open_archive
from rexnet_export.apps.bench.runner.failure import RunnerError
from rexnet_export.pipeline.accuracy.places import checked_places
from rexnet_export.pipeline.artifact.manifest import ManifestJson
from rexnet_export.pipeline.artifact.provenance import Statement
from rexnet_export.pipeline.checkpoint.load import load_checkpoint
from rexnet_export.pipeline.core.array_files import read_array, read_arrays
from rexnet_export.pipeline.core.errors import CheckpointError, ConversionError, DataError, UsageError
from rexnet_export.pipeline.core.records import Artifact, file_sha256, stored_file
from rexnet_export.pipeline.core.strict_json import read_json
from rexnet_export.pipeline.data.decode import decode, naming
from rexnet_export.pipeline.data.idx import parse_idx
from rexnet_export.pipeline.export.options import read_config
from rexnet_export.pipeline.graph.read_graph import read_float_graph
from rexnet_export.pipeline.labels.label_files import read_labels
from rexnet_export.quantization.table.table_file import load_table
from rexnet_export.targets.openvino.ir import MODEL, WEIGHTS
from rexnet_export.targets.openvino.target import Openvino
from rexnet_export.targets.tflite.flatbuffer import read_graph

MOST = 2**20


class Reader(NamedTuple):
    """What reads a file, what it may raise, and how its files end."""

    read: Callable[[Path], object]
    raises: tuple[type[Exception], ...]
    suffix: str


def image(path: Path) -> object:
    """A picture, as images of a folder are read."""
    with naming(path.name):
        return decode(BytesIO(path.read_bytes()))


def openvino(path: Path) -> object:
    """All that is read of a folder whose two files are the parts of this one, up to the model's end and behind it."""
    model, end, weights = path.read_bytes().partition(b"</net>\n")
    with tempfile.TemporaryDirectory() as temporary:
        (folder := Path(temporary) / "a.openvino").mkdir()
        (folder / MODEL).write_bytes(model + end)
        (folder / WEIGHTS).write_bytes(weights)
        found = Openvino().inspect(Artifact(target="openvino", precision="int8", file=stored_file(folder)))
        return found.metadata, found.coverage, found.structure, found.qparams, found.parameters


READERS: Mapping[str, Reader] = {
    "json": Reader(read_json, (ConversionError,), ".json"),
    "npy": Reader(lambda path: read_array(path, MOST), (ValueError, OSError), ".npy"),
    "npz": Reader(lambda path: read_arrays(path, MOST), (ValueError, OSError), ".npz"),
    "places": Reader(lambda path: checked_places(read_array(path, MOST), 40), (ValueError, OSError), ".npy"),
    "manifest": Reader(lambda path: ManifestJson.parse(path.read_bytes()), (ConversionError,), ".json"),
    "provenance": Reader(lambda path: Statement.parse(path.read_bytes()), (ConversionError,), ".json"),
    "table": Reader(load_table, (ConversionError,), ".json"),
    "labels": Reader(read_labels, (DataError,), ".csv"),
    "config": Reader(read_config, (UsageError,), ".toml"),
    "idx": Reader(lambda path: parse_idx(path.read_bytes(), rank=3, name="a"), (DataError,), ".idx"),
    "image": Reader(image, (DataError,), ".png"),
    "checkpoint": Reader(load_checkpoint, (CheckpointError,), ".pth"),
    "graph": Reader(lambda path: read_float_graph(path, file_sha256(path)), (ConversionError,), ".onnx"),
    "tflite": Reader(read_graph, (ConversionError,), ".tflite"),
    "openvino": Reader(openvino, (ConversionError,), ".ir"),
    "bundle": Reader(lambda path: open_archive(path).check(), (RunnerError,), ".zip"),
    "bundle-npy": Reader(array_file.read_array, (RunnerError,), ".npy"),
}
