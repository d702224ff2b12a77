"""Data sets as tables: parquet files, and the Arrow files that Hugging Face's `save_to_disk` writes.

pyarrow alone reads them; it comes with the extra `data`. Rows stay in their files until an image is wanted.
"""

from __future__ import annotations

import io
import json
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

from rexnet_export.pipeline.core.errors import DataError, first_line
from rexnet_export.pipeline.core.installing import extra_command
from rexnet_export.pipeline.data.encoded import EncodedImages
from rexnet_export.pipeline.labels.class_names import quoted
from rexnet_export.pipeline.labels.image_labels import LABEL_HEADERS

LARGEST_GROUP = 2**31  # bytes of a parquet file's row group, which is read whole
KEPT_GROUPS = 2
LABELS = LABEL_HEADERS | {"labels", "fine_label"}
BYTES = "bytes"

type Table = Any  # pyarrow comes without types
type Group = tuple[Path, int]


@dataclass(frozen=True, kw_only=True)
class TableImages(EncodedImages):
    """Images in a column of tables; `ids` are FILE/ROW."""

    place: Path
    column: str
    rows: Sequence[tuple[Group, int]]
    cache: Groups = field(compare=False)

    @property
    def name(self) -> str:
        """The file's or the folder's name."""
        return self.place.resolve().name

    def stream(self, index: int) -> BinaryIO:
        """The cell's bytes."""
        group, row = self.rows[index]
        value = self.cache.column(group, self.column)[row].as_py()
        content = value.get(BYTES) if isinstance(value, Mapping) else value
        if not isinstance(content, bytes):
            raise DataError("its cell holds no bytes; save the data set with its images embedded")
        return io.BytesIO(content)


class Groups:
    """Row groups, the last few of them in memory; threads share them, and a copy in another process has its own."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[Group, str], Table] = OrderedDict()
        self._lock = threading.Lock()

    def column(self, group: Group, name: str) -> Table:
        """One column of a group."""
        with self._lock:
            key = (group, name)
            if key not in self._kept:
                self._kept[key] = _read(group, [name]).column(name)
            self._kept.move_to_end(key)
            while len(self._kept) > KEPT_GROUPS:
                self._kept.popitem(last=False)
            return self._kept[key]

    def __reduce__(self) -> tuple[type[Groups], tuple[()]]:
        return Groups, ()


def open_tables(place: Path, files: Sequence[Path], *, labelled: bool) -> TableImages:
    """The images of tables, in their order, and with `labelled` their classes.

    A column of bytes, or of Hugging Face's images, is the images'; one that is called `label` or the like the classes'.
    """
    if find_spec("pyarrow") is None:
        raise DataError(f"{place} is a table of a data set, which pyarrow reads; run: {extra_command('data')}")
    try:
        schemas = [_schema(file) for file in files]
        if strangers := [f.name for f, s in zip(files, schemas, strict=True) if s.names != schemas[0].names]:
            raise DataError(f"{place}: {strangers[0]} has other columns than {files[0].name}; name one of them")
        image = _image_column(schemas[0], place)
        label = _label_column(schemas[0], place, image) if labelled else None
        stated = [_stated(schema, label) for schema in schemas]
        if others := [f.name for f, names in zip(files, stated, strict=True) if names != stated[0]]:
            raise DataError(f"{place}: {others[0]} has other classes than {files[0].name}; name one of them")
        groups = [group for file in files for group in _groups(file)]
        counts = [(group, _read(group, [label] if label else [])) for group in groups]
    except DataError:
        raise
    except Exception as error:  # pyarrow's errors have no common base
        raise DataError(f"{place} is damaged ({first_line(error)}); fetch it again") from error
    rows = [(group, row) for group, table in counts for row in range(table.num_rows)]
    if not rows:
        raise DataError(f"{place} holds no rows; fetch it again")
    values = [value for _, table in counts for value in table.column(label).to_pylist()] if label else []
    labels, class_names = _numbered(values, stated[0], place) if label else (None, None)
    ids, seen = [], dict[Path, int]()
    for group, _ in rows:
        seen[group[0]] = seen.get(group[0], -1) + 1
        ids.append(f"{group[0].name}/{seen[group[0]]}")
    return TableImages(
        place=place, ids=tuple(ids), rows=rows, column=image, labels=labels, class_names=class_names, cache=Groups()
    )


def _schema(file: Path) -> Table:
    import pyarrow.parquet  # noqa: PLC0415 - an extra

    return pyarrow.parquet.read_schema(file) if file.suffix == ".parquet" else _arrow(file).schema


def _groups(file: Path) -> list[Group]:
    import pyarrow.parquet  # noqa: PLC0415 - an extra

    if file.suffix != ".parquet":
        return [(file, 0)]
    metadata = pyarrow.parquet.read_metadata(file)
    sizes = [metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups)]
    if max(sizes, default=0) > LARGEST_GROUP:
        raise DataError(f"{file} has a row group of {max(sizes):,} bytes; write it with smaller ones (row_group_size)")
    return [(file, index) for index in range(metadata.num_row_groups)]


def _read(group: Group, columns: list[str]) -> Table:
    import pyarrow.parquet  # noqa: PLC0415 - an extra

    file, index = group
    if file.suffix != ".parquet":
        return _arrow(file).select(columns or None or _arrow(file).schema.names)
    with pyarrow.parquet.ParquetFile(file) as parquet:
        return parquet.read_row_group(index, columns=columns, use_threads=False)


def _arrow(file: Path) -> Table:
    """A memory map: nothing is read before it is looked at."""
    import pyarrow  # noqa: PLC0415 - an extra

    mapped = pyarrow.memory_map(str(file))
    try:
        return pyarrow.ipc.open_stream(mapped).read_all()
    except pyarrow.ArrowInvalid:
        return pyarrow.ipc.open_file(mapped).read_all()


def _image_column(schema: Table, place: Path) -> str:
    import pyarrow  # noqa: PLC0415 - an extra

    def holds_bytes(kind: Table) -> bool:
        return bool(pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind))

    found = [
        column.name
        for column in schema
        if holds_bytes(column.type)
        or (pyarrow.types.is_struct(column.type) and any(f.name == BYTES and holds_bytes(f.type) for f in column.type))
    ]
    if len(found) != 1:
        what = f"several columns of bytes ({quoted(found)})" if found else f"none of bytes ({quoted(schema.names)})"
        raise DataError(f"{place} has {what}; keep one column of encoded images")
    return str(found[0])


def _label_column(schema: Table, place: Path, image: str) -> str:
    named = [name for name in schema.names if name.lower() in LABELS and name != image]
    if len(named) != 1:
        raise DataError(f"{place}: columns {quoted(schema.names)}; call the one with the classes `label`")
    return str(named[0])


def _stated(schema: Table, label: str | None) -> tuple[str, ...] | None:
    """Hugging Face's class names of a column, from the schema's metadata."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        names = features[label]["names"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    return tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else None


def _numbered(
    values: Sequence[object], stated: tuple[str, ...] | None, place: Path
) -> tuple[tuple[int, ...], tuple[str, ...] | None]:
    """Class numbers with the names that are stated, or names by their sorted order."""
    numbers = [value for value in values if isinstance(value, int) and not isinstance(value, bool) and value >= 0]
    if len(numbers) == len(values):
        if stated is not None and max(numbers) >= len(stated):
            raise DataError(f"{place} has label {max(numbers)} but names {len(stated)} classes; fetch it again")
        return tuple(numbers), stated
    texts = [value for value in values if isinstance(value, str)]
    if len(texts) != len(values):
        strange = next(value for value in values if not isinstance(value, str | int) or value in (True, False, -1))
        raise DataError(f"{place} has the label {strange!r}, which is neither a class number nor a name; leave it out")
    names = tuple(sorted(set(texts)))
    number = {name: index for index, name in enumerate(names)}
    return tuple(number[text] for text in texts), names
