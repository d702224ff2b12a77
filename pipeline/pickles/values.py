"""What a checkpoint's pickle may ask for, name by name, and the plain value that stands for each.

Nothing here imports or calls what a file names: a path becomes its text, a namespace a dictionary, a date a record.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from rexnet_export.pipeline.pickles.stored_tensor import Storage, StoredTensor, view

# Libraries that leave records of theirs in checkpoints (options, log buffers); their values are kept as dictionaries.
_RECORDS_OF = re.compile(
    r"(argparse|types|datetime|uuid|decimal|fractions|enum|zoneinfo|omegaconf|yacs|easydict|addict|ml_collections|mmengine|"
    r"mmcv|pytorch_lightning|lightning|lightning_fabric|lightning_utilities|torchmetrics|numpy\.random|torch\.device|"
    r"__torch__)(\.|$)"
)
_MODULE = re.compile(
    r"(torch\.nn\.modules|torch\.nn\.parallel|timm)\.|(^|\.)(models?|nets?|networks?|modules?)\.|__main__"
)
_SCRIPTED = "__torch__"
_DTYPE = re.compile(r"[|<>=]?[biuf?](\d+)?")
_TEXT = re.compile(r"<?U([1-9]\d{0,3})")
_NUMPY_TO_TORCH = {
    np.dtype(str(kind).removeprefix("torch.")): kind for kind in (torch.float16, torch.float32, torch.float64)
}
_NUMPY_TO_TORCH |= {
    np.dtype(str(kind).removeprefix("torch.")): kind for kind in (torch.int64, torch.int32, torch.uint8)
}


class PickleRefused(Exception):
    """The file wants to use a class or function that is no part of a checkpoint; nothing was used."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    @property
    def is_module(self) -> bool:
        """Whether the name looks like that of a network, pickled whole."""
        return _MODULE.search(self.name) is not None


@dataclass(frozen=True)
class Named:
    """A class or function by name, and never more than its name."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class Record:
    """An object of a class that only holds values: its attributes."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.fields: Mapping[Any, Any] = {}

    @property
    def scripted(self) -> bool:
        """Whether it is a module of a TorchScript program."""
        return self.kind.startswith(_SCRIPTED)


class NumpyType:
    """`numpy.dtype` in the making: its byte order comes after the rest. Of what holds no numbers there is no `dtype`;
    `letters` are those of a text, where it holds texts of one length."""

    def __init__(self, name: object) -> None:
        text = name if isinstance(name, str) else ""
        self.dtype = np.dtype(text) if _DTYPE.fullmatch(text) else None
        self.letters = int(found[1]) if (found := _TEXT.fullmatch(text)) else 0

    def set_order(self, order: object) -> None:
        """Big endian, or what it is already."""
        if order == ">" and self.dtype is not None:
            self.dtype = self.dtype.newbyteorder(">")


class NumpyArray:
    """`numpy.ndarray` in the making: its numbers come after the object, or its `words` where it holds texts."""

    def __init__(self) -> None:
        self.array: np.ndarray[Any, np.dtype[Any]] = np.empty(0)
        self.words: tuple[str, ...] = ()

    def fill(self, shape: object, kind: object, content: object, *, by_column: bool) -> None:
        """Take shape, type and bytes as the file has them; `ValueError` where they do not fit."""
        if isinstance(kind, NumpyType) and kind.dtype is None:
            self.words = _words(kind, content)
            return
        if (
            not isinstance(kind, NumpyType)
            or not isinstance(content, bytes | bytearray)
            or not isinstance(shape, tuple)
        ):
            raise ValueError("a NumPy array of no numbers")
        flat = np.frombuffer(content, kind.dtype)
        self.array = flat.reshape(shape, order="F" if by_column else "C")

    def tensor(self) -> StoredTensor:
        """As a tensor; a type that torch does not have shows as what it is."""
        native = self.array.dtype.newbyteorder("=")
        dtype = _NUMPY_TO_TORCH.get(native)
        if dtype is None:
            return unreadable(f"NumPy's {native.name}", self.array.shape)
        return StoredTensor(
            shape=self.array.shape, dtype=dtype, read=lambda: torch.from_numpy(np.array(self.array, native, order="C"))
        )


def _words(kind: NumpyType, content: object) -> tuple[str, ...]:
    """What an array of texts, or of Python's strings, holds; nothing of any other."""
    if isinstance(content, bytes | bytearray) and kind.letters:
        return tuple(np.frombuffer(content, f"<U{kind.letters}").tolist())
    words = content if isinstance(content, list | tuple) else []
    return tuple(words) if all(isinstance(word, str) for word in words) else ()


def unreadable(kind: str, shape: tuple[int, ...] = (), dtype: torch.dtype = torch.float32) -> StoredTensor:
    """A tensor that is no dense array."""

    def read() -> torch.Tensor:
        raise ValueError(f"a tensor that is {kind}")

    return StoredTensor(shape=shape, dtype=dtype, kind=kind, read=read)


def called(function: object, arguments: object) -> object:
    """What stands for `function(*arguments)`."""
    if not isinstance(function, Named) or not isinstance(arguments, tuple):
        raise ValueError("a call of what is no function")
    if (builder := _CALLS.get(str(function))) is not None:
        return builder(*arguments)
    if _RECORDS_OF.match(str(function)):
        return Record(str(function))
    raise PickleRefused(str(function))


def instance(kind: object, arguments: object) -> object:
    """What stands for a new object of a class."""
    if not isinstance(kind, Named):
        raise ValueError("an object of what is no class")
    if str(kind) in _CALLS:
        return called(kind, arguments)
    if _RECORDS_OF.match(str(kind)):
        return Record(str(kind))
    raise PickleRefused(str(kind))


def finish(value: object, state: object) -> None:
    """Give an object its state; that of a dictionary's own attributes says nothing here."""
    match value, state:
        case Record(), (dict() as fields, _) | (_, dict() as fields):
            value.fields = fields
        case Record(), dict():
            value.fields = state
        case NumpyType(), (_, order, *_):
            value.set_order(order)
        case NumpyArray(), (_, shape, kind, by_column, content):
            value.fill(shape, kind, content, by_column=bool(by_column))
        case _:
            pass


def _tensor(storage: object, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_: object) -> StoredTensor:
    if not isinstance(storage, Storage):
        raise ValueError("a tensor without a storage")
    if not all(type(number) is int for number in (offset, *shape, *stride)):
        raise ValueError("a tensor whose sizes are no integers")
    return view(storage, offset, tuple(shape), tuple(stride))


def _tensor_of_type(
    storage: object, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *others: object
) -> object:
    dtype = others[2] if len(others) > 2 else None
    if not isinstance(storage, Storage) or not isinstance(dtype, Named):
        raise ValueError("a tensor without a storage")
    kind = getattr(torch, dtype.name, None) if dtype.module == "torch" else None
    if not isinstance(kind, torch.dtype):
        raise ValueError("a tensor of no type")
    count = storage.count * storage.dtype.itemsize // kind.itemsize
    return _tensor(Storage(dtype=kind, count=count, read=storage.read), offset, shape, stride)


def _subclassed(function: object, _kind: object, arguments: object, *_: object) -> object:
    return called(function, arguments)


def _encoded(text: object, codec: object = "utf-8") -> bytes:
    if not isinstance(text, str) or codec not in ("latin1", "latin-1", "utf-8", "utf8", "ascii"):
        raise ValueError("an unknown encoding")
    return text.encode(str(codec))


def _bytes(content: object = b"", codec: object = None) -> bytes:
    if isinstance(content, str):
        return _encoded(content, codec)
    return content if isinstance(content, bytes) else b""


def _mapping(items: object = ()) -> dict[Any, Any]:
    if isinstance(items, dict):
        return items
    pairs = [pair for pair in _items(items) if isinstance(pair, list | tuple) and len(pair) == 2]
    return {key: value for key, value in pairs if isinstance(key, str | int)}


def _items(items: object = ()) -> list[Any] | tuple[Any, ...]:
    return items if isinstance(items, list | tuple) else ()


def _list(items: object = ()) -> list[Any]:
    return list(_items(items))


def _scalar(kind: object, content: object = b"") -> object:
    if not isinstance(kind, NumpyType) or not isinstance(content, bytes | bytearray):
        raise ValueError("a NumPy number that is none")
    if kind.dtype is None:
        return Record("numpy.generic")
    value: object = np.frombuffer(content, kind.dtype)[0].item()
    return value


def _array_of(content: object, kind: object, shape: object, order: object = "C", *_: object) -> NumpyArray:
    array = NumpyArray()
    array.fill(shape, kind, content, by_column=order == "F")
    return array


def _reconstructed(kind: object, _base: object, _state: object) -> object:
    return instance(kind, ())


def _path(*parts: object) -> str:
    return "/".join(str(part).rstrip("/") or "" for part in parts if isinstance(part, str))


def _first(*values: object) -> object:
    return values[0] if values else None


def _record(kind: str) -> Callable[..., Record]:
    return lambda *_, **__: Record(kind)


type _Builder = Callable[..., object]

_TORCH: dict[str, _Builder] = {
    "_utils._rebuild_tensor": _tensor,
    "_utils._rebuild_tensor_v2": _tensor,
    "_utils._rebuild_tensor_v3": _tensor_of_type,
    "_utils._rebuild_parameter": _first,
    "_utils._rebuild_parameter_with_state": _first,
    "_utils._rebuild_sparse_tensor": lambda *_: unreadable("sparse"),
    "_utils._rebuild_qtensor": lambda *_: unreadable("quantized", dtype=torch.quint8),
    "_utils._rebuild_meta_tensor_no_storage": lambda _, shape, *__: unreadable(
        "strided, on meta", tuple(_items(shape))
    ),
    "_tensor._rebuild_from_type_v2": _subclassed,
    "Size": _items,
    "serialization._get_layout": _record("layout"),
    "jit._pickle.restore_type_tag": _first,
    **dict.fromkeys((f"jit._pickle.build_{kind}list" for kind in ("int", "tensor", "double", "bool")), _first),
}
_BUILTINS: dict[str, _Builder] = {
    "dict": _mapping,
    **dict.fromkeys(("list", "tuple", "set", "frozenset"), _items),
    **dict.fromkeys(("bytes", "bytearray"), _bytes),
    **{name: _record(name) for name in ("complex", "slice", "range")},
}
_BUILTINS["list"] = _list
_COLLECTIONS: dict[str, _Builder] = {
    "OrderedDict": _mapping,
    "defaultdict": lambda *_: {},
    "Counter": _mapping,
    "deque": lambda items=(), *_: _list(items),
}
_NUMPY: dict[str, _Builder] = {
    "multiarray.scalar": _scalar,
    "multiarray._reconstruct": lambda *_: NumpyArray(),
    "numeric._frombuffer": _array_of,
}
_PATHS = [f"{pure}{kind}Path" for pure in ("", "Pure") for kind in ("", "Posix", "Windows")]
_CALLS: dict[str, _Builder] = {
    **{f"torch.{name}": builder for name, builder in _TORCH.items()},
    **{f"{module}.{name}": each for module in ("builtins", "__builtin__") for name, each in _BUILTINS.items()},
    **{f"collections.{name}": builder for name, builder in _COLLECTIONS.items()},
    **{f"numpy.{core}.{name}": builder for core in ("core", "_core") for name, builder in _NUMPY.items()},
    **dict.fromkeys((f"{module}.{name}" for module in ("pathlib", "pathlib._local") for name in _PATHS), _path),
    "numpy.dtype": lambda name, *_: NumpyType(name),
    "_codecs.encode": _encoded,
    "copyreg._reconstructor": _reconstructed,
    "copy_reg._reconstructor": _reconstructed,
}
