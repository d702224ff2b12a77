"""Data sets in few large files: WebDataset's tar shards, and tables in parquet or Arrow."""

from __future__ import annotations

import re
from pathlib import Path

from rexnet_export.pipeline.core.errors import DataError
from rexnet_export.pipeline.data.encoded import EncodedImages
from rexnet_export.pipeline.data.folder import is_image
from rexnet_export.pipeline.data.shards import open_shards
from rexnet_export.pipeline.data.tables import open_tables
from rexnet_export.pipeline.labels.class_names import quoted

SHARD, TABLES = ".tar", (".parquet", ".arrow")
FOLDERS = frozenset({"data", "shards", "train", "validation", "valid", "val", "test"})  # that hold them in a data set
PARTS = frozenset({"train", "validation", "valid", "val", "test"})  # words in the names of a split's files


def is_packed(path: Path) -> bool:
    """Whether this is such a file, or a folder of them."""
    return bool(_files(path))


def open_packed(path: Path, *, labelled: bool) -> EncodedImages:
    """Open the shards or the tables; `DataError` where a folder holds several splits, or both kinds."""
    files = _files(path)
    if len({each.suffix for each in files}) > 1:
        raise DataError(f"{path} holds shards and tables ({quoted(sorted({each.suffix for each in files}))}); name one")
    parts = sorted({part for each in files if (part := _part(each)) is not None})
    if len(parts) > 1:
        raise DataError(f"{path} holds several parts of a data set ({quoted(parts)}); name a file or folder of one")
    read = open_shards if files[0].suffix == SHARD else open_tables
    return read(path, files, labelled=labelled)


def _files(path: Path) -> list[Path]:
    """The files themselves: at the path, in the folder, or one below, as Hugging Face has them.

    None where images lie beside them: then the folder is one of images.
    """
    if path.is_file():
        return [path] if path.suffix in {SHARD, *TABLES} else []
    if not path.is_dir():
        return []
    names = [each for each in path.iterdir() if not each.name.startswith(".")]
    below = [
        each for folder in names if folder.name.lower() in FOLDERS and folder.is_dir() for each in folder.iterdir()
    ]
    for entries in (names, below):
        if any(is_image(each.name) for each in entries):
            return []
        found = [each for each in entries if each.suffix in {SHARD, *TABLES} and not each.name.startswith("cache-")]
        if files := sorted(each for each in found if each.is_file()):
            return files
    return []


def _part(path: Path) -> str | None:
    """The split that a file belongs to, by the last such word of its own name or that of its folder.

    Data sets put their own name in front, as in `imagenet1k-train-0000.tar`.
    """
    words = [word for name in (path.parent.name, path.stem) for word in re.findall("[a-z]+", name.lower())]
    return next((word for word in reversed(words) if word in PARTS), None)
