"""The door for checkpoint files: what a file is by its first bytes, and its content with every size checked first.

torch's files (zip, the older form and TorchScript), bare pickles, safetensors and ONNX are read; nothing in them is
run, and no tensor is allocated before somebody wants it.
"""

from __future__ import annotations

import mmap
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch
from safetensors import SafetensorError, safe_open

from rexnet_export.pipeline.checkpoint.metadata import Stated
from rexnet_export.pipeline.checkpoint.onnx_weights import looks_like_onnx, read_onnx, weights_beside
from rexnet_export.pipeline.core.errors import CheckpointError
from rexnet_export.pipeline.core.records import Activation, StoredFile, stored_files
from rexnet_export.pipeline.core.text import excerpt, is_unicode
from rexnet_export.pipeline.core.untrusted import open_untrusted
from rexnet_export.pipeline.model.rexnet import ReXNet
from rexnet_export.pipeline.pickles.restricted_pickle import load_pickle
from rexnet_export.pipeline.pickles.stored_tensor import Storage, StoredTensor
from rexnet_export.pipeline.pickles.values import Named, PickleRefused

LARGEST_HEADER = 32 << 20  # of safetensors: 400 tensors need 50 kB, a quantization table some hundreds
LARGEST_PICKLE = 1 << 30
LARGEST_FILE = 1 << 36  # whatever training left beside the weights is not read
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


@dataclass(frozen=True, kw_only=True)
class FileContent:
    """A file's nested dictionaries with its tensors still stored, and the text metadata of safetensors.

    `check` raises `CheckpointError` where a network is not what the file computes; a state dict computes nothing.
    `head_activation` is what a graph shows between the layers of its head, `stated` what it says of its images.
    `beside` are other files that hold some of it, as an ONNX file's weights may be.
    """

    values: object
    metadata: Mapping[str, str] = field(default_factory=dict)
    head_activation: Activation | None = None
    stated: Stated = field(default_factory=Stated)
    check: Callable[[ReXNet], None] = lambda _: None
    beside: tuple[Path, ...] = ()


def read_file(path: Path) -> FileContent:
    """Read a file that nobody vouches for; `CheckpointError` says in one line what it is instead of a checkpoint."""
    start = _start(path)
    if start[8:9] == b"{" and not start.startswith(b"{"):  # safetensors: 8 bytes of length, then a JSON object
        return _read_safetensors(path)
    if start.startswith(b"PK"):
        return FileContent(values=_guarded(path, _read_zip))
    if start.startswith(b"\x80"):
        return FileContent(values=_guarded(path, _read_bare))
    if looks_like_onnx(start):
        found = read_onnx(path)
        return FileContent(
            values=found.tensors,
            head_activation=found.head_activation,
            stated=found.stated,
            check=found.check,
            beside=found.beside,
        )
    raise CheckpointError(f"{path} {_what(start)}")


def stored_checkpoint(path: Path) -> StoredFile:
    """A checkpoint's file with those that hold some of it, under the digest that loading it gives."""
    return stored_files(path, weights_beside(path) if looks_like_onnx(_start(path)) else ())


def _start(path: Path) -> bytes:
    try:
        with open_untrusted(path, LARGEST_FILE) as stream:
            start = stream.read(512)
    except FileNotFoundError as error:
        raise CheckpointError(f"no checkpoint at {path}") from error
    except OSError as error:
        raise CheckpointError(f"cannot read checkpoint {path}: {error.strerror}") from error
    if not start:
        raise CheckpointError(f"{path} is empty: fetch or save the checkpoint again")
    return start


_NO_CHECKPOINT = (
    (b"<", "is a web page, not weights: download the file itself (on a hub its `resolve` or `raw` address)"),
    (b"version https://git-lfs", "is a Git LFS pointer, not the file it stands for: run `git lfs pull`"),
    (b"\x1f\x8b", "is compressed (gzip): run `gunzip` or `tar xzf` on it and give what comes out"),
    (b"\xfd7zXZ", "is compressed (xz): run `unxz` on it and give what comes out"),
    (b"BZh", "is compressed (bzip2): run `bunzip2` on it and give what comes out"),
    (b"\x28\xb5\x2f\xfd", "is compressed (zstd): run `unzstd` on it and give what comes out"),
    (b"7z\xbc\xaf", "is a 7z archive: unpack it and give the checkpoint inside"),
    (b"Rar!", "is a RAR archive: unpack it and give the checkpoint inside"),
    (b"\x89HDF", "is an HDF5 file (Keras): only weights of a torch network are read"),
    (b"\x93NUMPY", "is a NumPy array: give a state_dict saved by torch.save, or safetensors"),
    (b"{", "is a JSON text, not weights: give the .safetensors or .bin file beside it"),
    (b"[", "is a JSON text, not weights: give the .safetensors or .bin file beside it"),
)


def _what(start: bytes) -> str:
    """What a file is that is no checkpoint, and the cure."""
    if start[257:262] == b"ustar":
        return "is a tar archive: unpack it (`tar xf`) and give the checkpoint inside"
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n")
    unknown = f"is neither a torch file, safetensors nor ONNX: it starts with {start[:16]!r}"
    return next((cure for sign, cure in _NO_CHECKPOINT if text.startswith(sign)), unknown)


def _read_safetensors(path: Path) -> FileContent:
    if not is_unicode(str(path)):
        raise CheckpointError(f"{path} has a name that is no UTF-8, and safetensors opens no such file: rename it")
    try:
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
        if length > min(LARGEST_HEADER, path.stat().st_size):
            raise ValueError(f"a header of {length:,} bytes")
        file: Any = safe_open(path, framework="pt")  # comes without types
        names = file.keys()
        values = {name: _slice(file, name) for name in names}
        return FileContent(values=values, metadata=dict(file.metadata() or {}))
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is truncated or damaged ({first_sentence(error)}): fetch it again") from error


def _slice(file: Any, name: str) -> StoredTensor:  # noqa: ANN401 - comes without types
    stored = file.get_slice(name)
    return StoredTensor(
        shape=tuple(stored.get_shape()),
        dtype=_SAFETENSORS_TYPES.get(stored.get_dtype(), torch.uint8),
        read=lambda: cast("torch.Tensor", file.get_tensor(name)),
    )


_SAFETENSORS_TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def _guarded(path: Path, read: Callable[[Path], object]) -> object:
    """What a reader of torch's files gives, its failures each in one line."""
    try:
        return read(path)
    except CheckpointError:
        raise
    except PickleRefused as refused:
        name = excerpt(refused.name)
        if refused.is_module:
            raise CheckpointError(
                f"{path} holds a whole pickled module ({name}), which only its own code opens; nothing in it was run. "
                f"Where that code is, run `m = torch.load({path.name!r}, weights_only=False)` and "
                "`torch.save(m.state_dict(), 'weights.pth')`, and give weights.pth"
            ) from refused
        raise CheckpointError(
            f"{path} holds Python objects ({name}), not only tensors; nothing in it was run: give its state_dict()"
        ) from refused
    except Exception as error:  # damaged bytes fail in a dozen ways
        reason = first_sentence(error)
        raise CheckpointError(f"{path} is truncated, damaged or no state_dict ({reason}): fetch it again") from error


def first_sentence(error: BaseException) -> str:
    """What an exception says, or its type, short and printable."""
    text = str(error).split(". ", 1)[0].split("\n", 1)[0]
    return excerpt(text or type(error).__name__)


def _read_zip(path: Path) -> object:
    """torch's zip archive: `data.pkl` and one entry a storage; TorchScript has its code and constants beside."""
    archive = zipfile.ZipFile(path)
    names = archive.namelist()
    pickles = [name for name in names if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(pickles) != 1:
        raise CheckpointError(f"{path} {_what_zip(names)}")
    root = pickles[0].removesuffix("data.pkl")
    if root + "byteorder" in names and archive.read(root + "byteorder") == b"big":
        raise CheckpointError(f"{path} was saved on a big-endian machine: save it again elsewhere")

    def entry(name: str) -> bytes:
        info = archive.getinfo(name)
        if info.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"{name} is compressed, which torch never does")
        return archive.read(info)

    def persistent(identification: object) -> Storage:
        dtype, key, count = _storage(identification)
        name = f"{root}data/{key}"
        if archive.getinfo(name).file_size < count * dtype.itemsize:
            raise ValueError(f"{name} is smaller than what it should hold")
        return Storage(dtype=dtype, count=count, read=lambda: entry(name))

    if archive.getinfo(pickles[0]).file_size > LARGEST_PICKLE:
        raise ValueError("a pickle of gigabytes")
    values = load_pickle(BytesIO(entry(pickles[0])), persistent)
    if f"{root}constants.pkl" in names and not any(name.startswith(f"{root}data/") for name in names):
        raise CheckpointError(
            f"{path} is a TorchScript program whose weights lost their names (it was frozen or optimized): give the "
            "state_dict() of the network it was made from"
        )
    return values


def _what_zip(names: list[str]) -> str:
    if any(name.endswith(".npy") for name in names):
        return "is a NumPy archive: give a state_dict saved by torch.save, or safetensors"
    if any(
        name.endswith(("archive_format", "models/model.json", "serialized_exported_program.json")) for name in names
    ):
        return "is a program of torch.export, which is not read: save the network's state_dict()"
    return "is a zip archive without torch's data.pkl: unpack it and give the checkpoint inside"


def _storage(identification: object) -> tuple[torch.dtype, str, int]:
    """Type, name and length from what torch writes in place of a storage."""
    match identification:
        case ("storage", Named() as kind, str() as key, _, int() as count, *_) if count >= 0:
            return _storage_type(kind), key, count
    raise ValueError("a storage that is described in no known way")


def _storage_type(kind: Named) -> torch.dtype:
    if kind.name == "UntypedStorage":
        return torch.uint8
    dtype = getattr(torch, _STORAGE_TYPES.get(kind.name, ""), None)
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"a storage of type {kind.name}")
    return dtype


_STORAGE_TYPES = {
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "QInt8Storage": "qint8",
    "QUInt8Storage": "quint8",
    "QInt32Storage": "qint32",
}


def _read_bare(path: Path) -> object:
    """A pickle by itself: torch's form before 1.6, whose storages follow it, or somebody's own."""
    with path.open("rb") as file:
        stream = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    first = load_pickle(cast("BinaryIO", stream), _no_storage)
    return _read_legacy(stream) if first == LEGACY_MAGIC else first


def _no_storage(_: object) -> object:
    raise ValueError("a storage in a bare pickle")


def _read_legacy(stream: mmap.mmap) -> object:
    file = cast("BinaryIO", stream)
    load_pickle(file, _no_storage)  # the protocol
    system = load_pickle(file, _no_storage)
    if not isinstance(system, Mapping) or system.get("little_endian") is not True:
        raise ValueError("saved on a big-endian machine")
    wanted: dict[str, tuple[torch.dtype, int]] = {}
    places: dict[str, int] = {}

    def persistent(identification: object) -> Storage:
        dtype, key, count = _storage(identification)
        if cast("tuple[object, ...]", identification)[5:] not in ((), (None,)):
            raise ValueError("a view of another storage")
        wanted[key] = dtype, count

        def read() -> bytes:
            return stream[places[key] : places[key] + count * dtype.itemsize]

        return Storage(dtype=dtype, count=count, read=read)

    values = load_pickle(file, persistent)
    keys = load_pickle(file, _no_storage)
    for key in keys if isinstance(keys, list | tuple) else ():
        count = int.from_bytes(stream.read(8), "little")
        dtype, expected = wanted[key]
        places[key] = stream.tell()
        if count != expected or places[key] + count * dtype.itemsize > len(stream):
            raise ValueError("its storages are cut off")
        stream.seek(places[key] + count * dtype.itemsize)
    if missing := wanted.keys() - places.keys():
        raise ValueError(f"{len(missing)} of its storages are missing")
    return values
