"""WebDataset shards: read where they lie, in bounded memory, and everything in them that is no image file is told."""

from __future__ import annotations

import io
import pickle
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from rexnet_export.pipeline.core.errors import DataError
from rexnet_export.pipeline.data.sources import check_images, match_labels, open_source, remarks


def picture(shade: int, kind: str = "PNG") -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (8, 6), (shade, 0, 255 - shade)).save(content, kind)
    return content.getvalue()


def shard(path: Path, members: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def test_images_and_classes_lie_side_by_side(tmp_path: Path) -> None:
    shard(tmp_path / "val-000.tar", {"a/1.jpg": picture(9, "JPEG"), "a/1.cls": b"3", "a/1.json": b"{}"})
    shard(tmp_path / "val-001.tar", {"a/2.png": picture(200), "a/2.cls": b"0\n"})
    source = open_source(tmp_path, labelled=True)
    assert list(source.ids) == ["val-000.tar/a/1.jpg", "val-001.tar/a/2.png"]
    assert (source.labels, source.class_names) == ((3, 0), None)
    assert source.content(1) == picture(200)
    assert np.asarray(source.load(1))[0, 0].tolist() == [200, 0, 55]
    assert check_images(source, range(2)).indices == (0, 1)
    (remark,) = remarks(source)
    assert "1 file is no image and is left out: 'a/1.json'" in remark
    assert list(match_labels(source, ("a", "b", "c", "d")).labels or ()) == [3, 0]


def test_one_shard_its_names_and_another_process(tmp_path: Path) -> None:
    one = shard(tmp_path / "all.tar", {"1.png": picture(1), "1.cls": b"dog", "2.png": picture(2), "2.cls": b"cat"})
    source = pickle.loads(pickle.dumps(open_source(one, labelled=True)))  # noqa: S301 - our own, as loaders send it
    assert (source.labels, source.class_names) == ((1, 0), ("cat", "dog"))
    assert source.load(0).getpixel((0, 0)) == (1, 0, 254)
    assert open_source(one, labelled=False).labels is None


def test_images_without_a_class_are_left_out_and_told(tmp_path: Path) -> None:
    path = shard(tmp_path / "x.tar", {"1.png": picture(1), "2.png": picture(2), "2.cls": b"1"})
    source = open_source(path, labelled=True)
    assert list(source.ids) == ["x.tar/2.png"]
    assert "1 image has no .cls and is left out" in remarks(source)[0]


def linked(path: Path, kind: bytes) -> Path:
    with tarfile.open(path, "w") as archive:
        entry = tarfile.TarInfo("1.jpg")
        entry.type, entry.linkname = kind, "/etc/passwd"
        archive.addfile(entry)
    return path


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    with pytest.raises(DataError, match=r"'1\.jpg' is a link or a device"):
        open_source(linked(tmp_path / "x.tar", kind), labelled=False)


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({}, "holds no images"),
        ({"1.cls": b"1"}, "holds no images; WebDataset"),
        ({"1.png": picture(1)}, r"none of its 1 images has a \.cls"),
        ({"1.png": picture(1), "1.jpg": picture(1), "1.cls": b"1"}, "1 has several images"),
        ({"1.png": picture(1), "1.cls": b"x" * 2000}, r"its \.cls has 2,000 bytes"),
        ({"1.png": picture(1), "1.cls": b""}, "is empty"),
        ({"../1.png": picture(1), "../1.cls": b"1"}, "leads out of the shard"),
    ],
)
def test_what_is_no_labelled_shard_is_refused(tmp_path: Path, members: dict[str, bytes], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        open_source(shard(tmp_path / "x.tar", members), labelled=True)


def test_a_member_or_a_header_that_claims_to_be_huge_is_refused(tmp_path: Path) -> None:
    entry = tarfile.TarInfo("1.jpg")
    entry.size = 2**29
    (tmp_path / "x.tar").write_bytes(entry.tobuf() + b"x")
    with (tmp_path / "x.tar").open("r+b") as stream:
        stream.truncate(2**29 + 4096)  # sparse on the disk
    with pytest.raises(DataError, match="536,870,912 bytes, more than an image has"):
        open_source(tmp_path / "x.tar", labelled=False)
    entry.type = tarfile.XHDTYPE
    with (tmp_path / "x.tar").open("r+b") as stream:
        stream.write(entry.tobuf())
    with pytest.raises(DataError, match=r"no whole tar file \(a header of 536,870,912 bytes"):
        open_source(tmp_path / "x.tar", labelled=False)


@pytest.mark.parametrize(
    "names",
    [
        ("train-000.tar", "val-000.tar"),
        ("train.tar", "val.tar"),
        ("imagenet1k-train-0000.tar", "imagenet1k-val-00.tar"),
        ("Train_0.tar", "Val_0.tar"),
        ("val-to-train-0.tar", "val-to-val-0.tar"),
    ],
)
def test_splits_beside_each_other_are_told_apart(tmp_path: Path, names: tuple[str, str]) -> None:
    for name in names:
        shard(tmp_path / name, {"1.png": picture(1), "1.cls": b"0"})
    with pytest.raises(DataError, match=r"holds several parts of a data set \('train', 'val'\)"):
        open_source(tmp_path, labelled=True)
    assert len(open_source(tmp_path / names[1], labelled=True)) == 1


def test_a_word_that_all_shards_share_makes_no_parts_of_them(tmp_path: Path) -> None:
    for name in ("test-bench-0.tar", "test-bench-1.tar", "train-of-thought.tar"):
        shard(tmp_path / name, {"1.png": picture(1), "1.cls": b"0"})
    with pytest.raises(DataError, match="several parts"):
        open_source(tmp_path, labelled=True)
    (tmp_path / "train-of-thought.tar").unlink()
    assert len(open_source(tmp_path, labelled=True)) == 2


def test_a_shard_beside_images_makes_no_shards_of_their_folder(tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(picture(1))
    shard(tmp_path / "backup.tar", {"1.png": picture(1), "1.cls": b"0"})
    source = open_source(tmp_path, labelled=False)
    assert list(source.ids) == ["photo.png"]
    assert "backup.tar" in remarks(source)[0]


def test_a_list_of_labels_beside_shards_is_refused(tmp_path: Path) -> None:
    path = shard(tmp_path / "x.tar", {"1.png": picture(1), "1.cls": b"0"})
    with pytest.raises(DataError, match="brings its labels"):
        open_source(path, labelled=True, image_labels=tmp_path / "l.csv")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_shard_opens_or_is_refused_in_a_line(tmp_path: Path, data: st.DataObject) -> None:
    path = shard(tmp_path / "x.tar", {"1.png": picture(1), "1.cls": b"0", "2.png": picture(2), "2.cls": b"1"})
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, 5000))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    try:
        source = open_source(path, labelled=True)
        for index in range(len(source)):
            source.probe(index)
    except DataError as error:
        assert "\n" not in str(error)  # noqa: PT017 - either way is right
