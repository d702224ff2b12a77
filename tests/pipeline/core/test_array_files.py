"""Arrays from elsewhere: what a header declares is there, or the file is refused before memory is taken."""

from __future__ import annotations

import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hostile import HOSTILE_ARRAYS, described, npy

from rexnet_export.pipeline.core.array_files import ArrayArchive, parse_array, read_array, read_arrays


@pytest.mark.parametrize("content", HOSTILE_ARRAYS.values(), ids=HOSTILE_ARRAYS)
def test_a_hostile_array_is_a_value_error_and_takes_no_memory(content: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ValueError) as caught:
            parse_array(content)
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype="<f4").reshape(2, 3),
        np.asfortranarray(np.arange(6, dtype=">i8").reshape(2, 3)),
        np.array(["a", "\U0001f600"]),
        np.zeros((0, 5), np.uint16),
        np.array(3.5),
        np.array([True]),
    ],
)
def test_what_numpy_writes_is_read(tmp_path: Path, array: np.ndarray) -> None:
    np.save(file := tmp_path / "a.npy", array)
    found = read_array(file, array.nbytes)
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)
    with pytest.raises((OSError, ValueError)):
        read_array(file, -5000)


def test_archives_are_read_array_by_array(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    np.savez_compressed(file, a=np.arange(3), b=np.array(["x"]))
    with ArrayArchive(file, 10_000) as archive:
        assert set(archive.sizes) == {"a", "b"}
        assert archive.read("a", 24).tolist() == [0, 1, 2]
        with pytest.raises(ValueError, match="no array 'c'"):
            archive.read("c", 24)
    assert read_arrays(file, 100)["b"].tolist() == ["x"]


def test_a_small_archive_that_holds_gigabytes_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    file = tmp_path / "bomb.npz"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w") as member:
        member.write(npy(described(f"({2**26},)")))
        for _ in range(64):
            member.write(bytes(2**22))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="more than"):
            read_arrays(file, 2**20)
        with ArrayArchive(file, 2**22) as opened, pytest.raises(ValueError, match="more than"):
            opened.read("a", 2**20)
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("flip", [0x01, 0xFF])
def test_with_any_byte_spoiled_an_archive_is_refused_or_the_same(tmp_path: Path, flip: int) -> None:
    np.savez(file := tmp_path / "a.npz", a=np.arange(30))
    whole = file.read_bytes()
    for offset in range(len(whole)):
        file.write_bytes(whole[:offset] + bytes([whole[offset] ^ flip]) + whole[offset + 1 :])
        try:
            arrays = read_arrays(file, 10_000)
        except (OSError, ValueError):
            continue
        assert not arrays or [array.tolist() for array in arrays.values()] == [list(range(30))], offset
