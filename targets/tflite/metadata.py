"""TFLite metadata as Android's task libraries read it, written with the `flatbuffers` library alone.

Tables and field numbers follow `metadata_schema.fbs` 1.x of TensorFlow Lite Support (file identifier M001); its
Python package has no release for current Python versions. Labels are a file in a ZIP archive behind the model.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rexnet_export.pipeline.artifact.metadata import card_from
from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.outputs import LOGITS, PROBABILITIES
from rexnet_export.pipeline.core.records import RGB, ModelCard
from rexnet_export.pipeline.core.strict_json import strict_loads
from rexnet_export.pipeline.core.untrusted import MOST_ARTIFACT, open_untrusted
from rexnet_export.targets.tflite.flatbuffer import Graph

if TYPE_CHECKING:
    from flatbuffers import Builder

TASK_ENTRY, OWN_ENTRY = "TFLITE_METADATA", "rexnet_export"
LABELS_FILE = "labels.txt"
MOST_TEXT = 256 * 2**20  # bytes of our own description
_IDENTIFIER = b"M001"
_PARSER_VERSION = "1.0.0"
_AXIS_LABELS, _RGB = 2, 1
_IMAGE_PROPERTIES, _NORMALIZATION = 2, 1  # members of the unions ContentProperties and ProcessUnitOptions
_STATED = {1: "description", 2: "version", 4: "author", 5: "license"}  # fields of ModelMetadata, of our description
_EPOCH = (1980, 1, 1, 0, 0, 0)
_MEANINGS = {LOGITS: "score of each class before softmax", PROBABILITIES: "probability of each class"}


def by_position(outputs: Sequence[str]) -> tuple[str, ...]:
    """Probabilities first: Android's task libraries and MediaPipe compare a threshold with the first output, and people
    read the first of a classifier's heads."""
    return tuple(sorted(outputs, key=lambda name: name != PROBABILITIES))


def entries(card: ModelCard, described: Mapping[str, str], outputs: Sequence[str]) -> dict[str, bytes]:
    """The file's metadata entries: the standard one, which names its outputs in their order, and our own description
    as JSON."""
    return {
        TASK_ENTRY: _task_metadata(card, described, outputs),
        OWN_ENTRY: json.dumps(dict(described), sort_keys=True).encode(),
    }


def with_labels(model: bytes, card: ModelCard) -> bytes:
    """The model with its label file, one label per line, in a ZIP archive behind it; equal labels, equal bytes."""
    for label in card.labels:
        if len(label.splitlines()) != 1:
            raise ConversionError(f"label {label!r} is not one line of text, as TFLite's label file needs; rename it")
    content = io.BytesIO(model)
    with zipfile.ZipFile(content, "a") as members:  # appending makes the archive's offsets count from the file's start
        members.writestr(zipfile.ZipInfo(LABELS_FILE, _EPOCH), _label_file(card))
    return content.getvalue()


def _label_file(card: ModelCard) -> str:
    return "\n".join(card.labels) + "\n"


def require_labels(path: Path, described: Mapping[str, str]) -> None:
    """`ConversionError` unless the label file behind a model names the classes that its description names.

    They are the last bytes of the file, so that reading them also shows that it is whole.
    """
    wanted = _label_file(card_from(described)).encode()
    try:
        with open_untrusted(path, MOST_ARTIFACT) as stream, zipfile.ZipFile(stream) as members:
            size = members.getinfo(LABELS_FILE).file_size
            if size != len(wanted) or members.read(LABELS_FILE) != wanted:
                raise ConversionError(f"{path.name}: {LABELS_FILE} is not what its labels are; export the model again")
    except (OSError, zipfile.BadZipFile, zlib.error, KeyError, ValueError, NotImplementedError, RuntimeError) as error:
        raise ConversionError(f"{path} has no readable {LABELS_FILE} at its end; export the model again") from error


def read_description(graph: Graph) -> dict[str, str]:
    """The description a file carries; a file without one was not exported here."""
    content = graph.metadata(OWN_ENTRY)
    if content is None:
        raise ConversionError(f"the file has no {OWN_ENTRY} metadata: not exported by rexnet-export; export it again")
    try:
        described = strict_loads(content, MOST_TEXT)
    except ConversionError as error:
        raise ConversionError(f"the file's {OWN_ENTRY} metadata is damaged; export the model again") from error
    texts = described if isinstance(described, dict) else {}
    found = {key: value for key, value in texts.items() if isinstance(value, str)}
    if not found or len(found) < len(texts):
        raise ConversionError(f"the file's {OWN_ENTRY} metadata is no map of texts; export the model again")
    return found


def _task_metadata(card: ModelCard, described: Mapping[str, str], outputs: Sequence[str]) -> bytes:
    import flatbuffers  # noqa: PLC0415

    table = _Tables(flatbuffers.Builder(1024))
    # Pixels go in as they are: normalisation is inside the model, so the reader's own must be (x - 0) / 1.
    normalization = table.table({0: table.floats([0.0]), 1: table.floats([1.0])})
    unit = table.table({0: ("int8", _NORMALIZATION), 1: normalization})
    (height, width), channels = card.preprocess.shape, card.preprocess.channels
    kind, content = f"image of {channels} channels", {}
    if channels == RGB:
        kind = "RGB image"
        properties = table.table({0: ("int8", _RGB)})
        content = {3: table.table({0: ("int8", _IMAGE_PROPERTIES), 1: properties})}
    image = table.table(
        {
            0: table.text("image"),
            1: table.text(f"{kind}, {width} x {height} pixels"),
            **content,
            4: table.tables([unit]),
            5: table.table({0: table.floats([255.0]), 1: table.floats([0.0])}),
        }
    )
    ends = _features(table, card) if card.features else [_output(table, card, name) for name in outputs]
    subgraph = table.table({2: table.tables([image]), 3: table.tables(ends)})
    stated = {field: table.text(described[key]) for field, key in _STATED.items()}
    model = table.table(
        {0: table.text(card.name), **stated, 3: table.tables([subgraph]), 7: table.text(_PARSER_VERSION)}
    )
    return table.finished(model)


def _output(table: _Tables, card: ModelCard, name: str) -> int:
    if name not in _MEANINGS:
        return table.table({0: table.text(name), 1: table.text("a further head")})
    if card.numbers:
        return table.table({0: table.text(name), 1: table.text("numbers, no classes")})
    labels = table.table({0: table.text(LABELS_FILE), 2: ("int8", _AXIS_LABELS)})
    feature = table.table({0: ("int8", 1), 1: table.table({})})
    return table.table(
        {
            0: table.text(name),
            1: table.text(_MEANINGS[name]),
            3: feature,
            6: table.tables([labels]),
        }
    )


def _features(table: _Tables, card: ModelCard) -> list[int]:
    return [
        table.table({0: table.text(f.name), 1: table.text(f"{f.channels} channels at stride {f.stride}, NHWC")})
        for f in card.features
    ]


class _Tables:
    """Flatbuffer tables from field numbers; a value is an offset, or ("int8", number) stored in place."""

    def __init__(self, builder: Builder) -> None:
        self._builder = builder

    def text(self, value: str) -> int:
        return int(self._builder.CreateString(value))

    def floats(self, values: Sequence[float]) -> int:
        return int(self._builder.CreateNumpyVector(np.array(values, np.float32)))

    def tables(self, offsets: Sequence[int]) -> int:
        self._builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self._builder.PrependUOffsetTRelative(offset)
        return int(self._builder.EndVector())

    def table(self, fields: Mapping[int, int | tuple[str, int]]) -> int:
        self._builder.StartObject(max(fields, default=-1) + 1)
        for number, value in fields.items():
            if isinstance(value, tuple):
                self._builder.PrependInt8Slot(number, value[1], 0)
            else:
                self._builder.PrependUOffsetTRelativeSlot(number, value, 0)
        return int(self._builder.EndObject())

    def finished(self, root: int) -> bytes:
        self._builder.Finish(root, _IDENTIFIER)
        return bytes(self._builder.Output())
