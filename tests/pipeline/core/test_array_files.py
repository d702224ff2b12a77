"""Arrays from elsewhere: what a header declares is there, or the file is refused before memory is taken."""

from __future__ import annotations

import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from rexnet_export.pipeline.core.array_files import ArrayArchive, parse_array, read_array, read_arrays

MAGIC = b"\x93NUMPY\x01\x00"


def npy(header: bytes, content: bytes = b"", magic: bytes = MAGIC) -> bytes:
    return magic + len(header).to_bytes(2, "little") + header + content


def described(shape: str, kind: str = "<f4") -> bytes:
    return f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()


HOSTILE = {
    "empty": b"",
    "magic only": MAGIC,
    "unknown version": npy(described("(1,)"), bytes(4), b"\x93NUMPY\x09\x00"),
    "nul in the header": npy(b"{'descr': '<f4\0', 'fortran_order': False, 'shape': (1,)}\n", bytes(4)),
    "unclosed": npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (1,"),
    "open string": npy(b"{'descr': '<f4"),
    "no dictionary": npy(b"[1, 2]\n"),
    "no shape": npy(b"{'descr': '<f4', 'fortran_order': False}\n"),
    "90 digits": npy(described(f"({'9' * 90},)"), bytes(4)),
    "3,000 digits": npy(described(f"({'9' * 3000},)"), bytes(4)),
    "2^42 values": npy(described(f"({2**42},)"), bytes(4)),
    "wraps to nothing": npy(described(f"({2**32}, {2**32})"), b""),
    "huge beside nothing": npy(described(f"(0, {2**63})"), b""),
    "negative": npy(described("(-1,)"), bytes(4)),
    "negative twice": npy(described("(-1, -1)"), bytes(4)),
    "a float": npy(described("(1.0,)"), bytes(4)),
    "deep": npy(described("(" * 900 + "1," + ")" * 900), bytes(4)),
    "shorter than declared": npy(described("(2,)"), bytes(4)),
    "longer than declared": npy(described("(2,)"), bytes(12)),
    "objects": npy(described("(1,)", "|O"), bytes(8)),
    "no type": npy(described("(1,)", "zzz"), bytes(8)),
    "nothing wide": npy(described(f"({2**40},)", "<U0")),
    "no text": npy(described("(1,)", "<U1"), b"\xff\xff\xff\xff"),
    "header of 60 kB": npy(b" " * 60_000 + described("(1,)"), bytes(4)),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
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
