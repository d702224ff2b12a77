"""Reading numpy's `.npy` and `.npz` from elsewhere: what a header declares is compared with what is there first.

numpy itself allocates what the header says. Whatever is wrong is a `ValueError`, or the door's `OSError`.
"""

from __future__ import annotations

import io
import math
import struct
import sys
import warnings
import zipfile
import zlib
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from rexnet_export.pipeline.core.untrusted import open_untrusted, read_untrusted

HEADER = 4096  # bytes of an array's own description, at most
SUFFIX = ".npy"
KINDS = frozenset("biufUS")  # booleans, integers, floats, texts: nothing that runs or holds more than numbers
METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
NPY: Any = npy  # its stubs lack types


def read_array(path: Path, most_bytes: int) -> NDArray[Any]:
    """The array of a `.npy` file of at most `most_bytes`, not counting its header."""
    return parse_array(read_untrusted(path, most_bytes + HEADER))


def parse_array(content: bytes) -> NDArray[Any]:
    """The array of a `.npy` file's bytes, which must be exactly as long as its header says."""
    stream = io.BytesIO(content)
    shape, in_fortran_order, dtype = _header(stream)
    length = len(content) - stream.tell()
    if dtype.kind not in KINDS or not dtype.itemsize:
        raise ValueError(f"it holds {str(dtype)[:40]}, no plain numbers or texts")
    if any(size < 0 for size in shape) or math.prod(shape) * dtype.itemsize != length:
        raise ValueError(f"its header declares {str(list(shape))[:80]} of {dtype}, and {length:,} bytes follow")
    flat = np.frombuffer(content, dtype, offset=stream.tell())
    if dtype.kind == "U" and flat.size and flat.view(dtype.str[0] + "u4").max() > sys.maxunicode:
        raise ValueError("it holds texts that are none")
    return flat.reshape(shape, order="F" if in_fortran_order else "C").copy()


class ArrayArchive:
    """An `.npz` of at most `most_bytes` packed, from which arrays are unpacked one by one."""

    def __init__(self, path: Path, most_bytes: int) -> None:
        self._stream = open_untrusted(path, most_bytes)
        try:
            self._archive = zipfile.ZipFile(self._stream)
            self._members = {info.filename.removesuffix(SUFFIX): info for info in self._archive.infolist()}
            self.sizes = {name: info.file_size for name, info in self._members.items()}
            if len(self.sizes) < len(self._archive.infolist()):
                raise ValueError("it holds two arrays of one name")
        except (zipfile.BadZipFile, NotImplementedError, struct.error, ValueError) as error:
            self._stream.close()
            raise ValueError(f"it is no array archive ({error})") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def read(self, name: str, most_bytes: int) -> NDArray[Any]:
        """One array of at most `most_bytes`."""
        if name not in self.sizes:
            raise ValueError(f"it has no array {name!a}")
        if self.sizes[name] > most_bytes + HEADER:
            raise ValueError(f"{name!a} has {self.sizes[name]:,} bytes, more than {most_bytes:,}")
        info = self._members[name]
        if info.compress_type not in METHODS:
            raise ValueError(f"{name!a} is packed by method {info.compress_type}")
        try:
            with self._archive.open(info) as member:
                content = member.read(self.sizes[name] + 1)
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, struct.error) as error:
            raise ValueError(f"{name!a} cannot be unpacked ({error})") from error
        try:
            return parse_array(content)
        except ValueError as error:
            raise ValueError(f"{name!a}: {error}") from error


def read_arrays(path: Path, most_bytes: int) -> dict[str, NDArray[Any]]:
    """All arrays of an `.npz`, of at most `most_bytes` together, unpacked."""
    with ArrayArchive(path, most_bytes + 2**16) as archive:
        whole = sum(archive.sizes.values())
        if whole > most_bytes + HEADER * len(archive.sizes):
            raise ValueError(f"its arrays have {whole:,} bytes, more than {most_bytes:,}")
        return {name: archive.read(name, most_bytes) for name in archive.sizes}


def _header(stream: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and type; numpy's reader goes through Python's tokenizer, parser and arithmetic."""
    try:
        read = {(1, 0): NPY.read_array_header_1_0, (2, 0): NPY.read_array_header_2_0}[NPY.read_magic(stream)]
        with warnings.catch_warnings(action="ignore"):  # Python's parser warns of odd escapes
            shape, in_fortran_order, dtype = read(stream, max_header_size=HEADER)
    except Exception as error:  # a list of what they raise was never whole: SystemError is among it
        raise ValueError(f"its array header is damaged ({type(error).__name__})") from error
    return shape, in_fortran_order, dtype
