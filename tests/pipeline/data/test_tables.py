"""Data sets as tables: parquet and Arrow files as Hugging Face writes them, read row by row."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from rexnet_export.pipeline.core.errors import DataError
from rexnet_export.pipeline.data import tables
from rexnet_export.pipeline.data.sources import open_source


def picture(shade: int) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (8, 6), (shade, 0, 255 - shade)).save(content, "PNG")
    return content.getvalue()


def table(labels: Sequence[Any], names: Sequence[str] | None = None, *, plain: bool = False) -> pyarrow.Table:
    """Image 0 is of shade 0, image 1 of shade 1, ..."""
    cells = [picture(index) for index in range(len(labels))]
    images = cells if plain else [{"bytes": cell, "path": None} for cell in cells]
    made = pyarrow.table({"image": images, "label": list(labels)})
    if names is None:
        return made
    features = {"image": {"_type": "Image"}, "label": {"names": list(names), "_type": "ClassLabel"}}
    return made.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def test_parquet_gives_images_and_the_names_that_it_states(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for part, labels in ((0, [1, 0, 1]), (1, [0])):
        file = tmp_path / "data" / f"validation-0000{part}-of-00002.parquet"
        pyarrow.parquet.write_table(table(labels, ["cat", "dog"]), file, row_group_size=2)
    source = open_source(tmp_path, labelled=True)
    assert (source.labels, source.class_names) == ((1, 0, 1, 0), ("cat", "dog"))
    assert source.ids[2] == "validation-00000-of-00002.parquet/2"
    assert [source.load(index).getpixel((0, 0))[0] for index in (2, 0, 3, 1)] == [2, 0, 0, 1]
    again = pickle.loads(pickle.dumps(source))  # noqa: S301 - our own, as loaders send it
    assert again.content(1) == picture(1)
    assert open_source(tmp_path, labelled=False).labels is None


def test_files_whose_numbers_mean_other_classes_are_not_mixed(tmp_path: Path) -> None:
    for name, names in (("a", ["cat", "dog"]), ("b", ["dog", "cat"])):
        pyarrow.parquet.write_table(table([0, 1], names), tmp_path / f"{name}.parquet")
    with pytest.raises(DataError, match=r"b\.parquet has other classes than a\.parquet; name one of them"):
        open_source(tmp_path, labelled=True)
    assert len(open_source(tmp_path, labelled=False)) == 4


@pytest.mark.parametrize("stream", [True, False])
def test_arrow_as_save_to_disk_writes_it(tmp_path: Path, stream: bool) -> None:  # noqa: FBT001 - of the test
    file = tmp_path / "data-00000-of-00001.arrow"
    made = table(["b", "a"], plain=True)
    writer = pyarrow.ipc.new_stream if stream else pyarrow.ipc.new_file
    with writer(file, made.schema) as opened:
        opened.write_table(made)
    (tmp_path / "state.json").write_text("{}", encoding="utf-8")
    source = open_source(tmp_path, labelled=True)
    assert (source.labels, source.class_names) == ((1, 0), ("a", "b"))
    assert source.load(1).getpixel((0, 0)) == (1, 0, 254)


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (pyarrow.table({"label": [1]}), r"has none of bytes \('label'\)"),
        (pyarrow.table({"image": [b"x"], "mask": [b"y"], "label": [0]}), "several columns of bytes"),
        (pyarrow.table({"image": [b"x"], "kind": [0]}), "call the one with the classes `label`"),
        (table([-1, 0]), "has the label -1"),
        (table([5], ["cat", "dog"]), "has label 5 but names 2 classes"),
        (table([]).cast(pyarrow.schema({"image": pyarrow.binary(), "label": pyarrow.int64()})), "holds no rows"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path: Path, made: pyarrow.Table, reason: str) -> None:
    pyarrow.parquet.write_table(made, tmp_path / "x.parquet")
    with pytest.raises(DataError, match=reason):
        open_source(tmp_path / "x.parquet", labelled=True)


def test_damage_and_cells_without_bytes_are_named(tmp_path: Path) -> None:
    file = tmp_path / "x.parquet"
    made = pyarrow.table({"image": [{"bytes": None, "path": "a.png"}, {"bytes": b"no", "path": "b"}], "label": [0, 1]})
    pyarrow.parquet.write_table(made, file)
    source = open_source(file, labelled=True)
    with pytest.raises(DataError, match=r"x\.parquet/0 \(its cell holds no bytes; save the data set with its images"):
        source.probe(0)
    with pytest.raises(DataError, match=r"x\.parquet/1 \(not an image\)"):
        source.probe(1)
    file.write_bytes(file.read_bytes()[:60] + b"PAR1")
    with pytest.raises(DataError, match="is damaged"):
        open_source(file, labelled=True)


def test_without_pyarrow_one_line_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pyarrow.parquet.write_table(table([0]), tmp_path / "x.parquet")
    monkeypatch.setattr(tables, "find_spec", lambda _: None)
    with pytest.raises(DataError, match=r"pyarrow reads; run: .*(?:\[|--extra )data\b.*"):
        open_source(tmp_path, labelled=False)


def test_row_groups_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pyarrow.parquet.write_table(table([0, 1]), tmp_path / "x.parquet")
    monkeypatch.setattr(tables, "LARGEST_GROUP", 10)
    with pytest.raises(DataError, match=r"row group of .* write it with smaller ones"):
        open_source(tmp_path, labelled=False)
