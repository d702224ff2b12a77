"""A tensor that is still in its file: what it claims to be is known, nothing is allocated before it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

STRIDED = "strided, on cpu"
SMALL = 1 << 16  # numbers that a view may repeat: a buffer filled with one value is no bomb


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredTensor:
    """`read` gives the dense tensor of `shape`; `kind` is anything but `STRIDED` where there is none to give."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], Tensor]
    kind: str = STRIDED

    @property
    def ndim(self) -> int:
        """How many axes."""
        return len(self.shape)

    @property
    def dense(self) -> bool:
        """Whether it is a plain array of floating-point numbers, as weights are."""
        return self.kind == STRIDED and self.dtype.is_floating_point

    def seen_as(self, shape: tuple[int, ...], change: Callable[[Tensor], Tensor]) -> StoredTensor:
        """What `change` makes of it when it is read."""
        return StoredTensor(shape=shape, dtype=self.dtype, kind=self.kind, read=lambda: change(self.read()))

    def __str__(self) -> str:
        return f"{self.dtype}, {self.kind}".replace("torch.", "")


def held(tensor: Tensor) -> StoredTensor:
    """A tensor that is in memory already."""
    return StoredTensor(shape=tuple(tensor.shape), dtype=tensor.dtype, read=lambda: tensor)


@dataclass(frozen=True, kw_only=True, eq=False)
class Storage:
    """`count` numbers of one type in a file; `read` gives their bytes, little endian."""

    dtype: torch.dtype
    count: int
    read: Callable[[], bytes]


def view(storage: Storage, offset: int, shape: tuple[int, ...], stride: tuple[int, ...]) -> StoredTensor:
    """A view of a storage; `ValueError` where it leaves the storage, or repeats it into something much larger."""
    numbers = 1
    for side in shape:
        numbers *= side
    if min((offset, *shape, *stride), default=0) < 0 or len(shape) != len(stride):
        raise ValueError("a tensor has negative sizes or strides")
    last = offset + sum((side - 1) * step for side, step in zip(shape, stride, strict=True)) if numbers else -1
    if last >= storage.count:
        raise ValueError("a tensor is larger than what is stored of it")
    if numbers > max(storage.count, SMALL):
        raise ValueError(f"a tensor of {numbers:,} numbers is a view that repeats {storage.count:,} stored ones")

    def read() -> Tensor:
        flat = torch.frombuffer(bytearray(storage.read()), dtype=storage.dtype) if storage.count else torch.empty(0)
        if flat.numel() < storage.count:
            raise ValueError("stored numbers are missing")
        return flat.to(storage.dtype).as_strided(shape, stride, offset)

    return StoredTensor(shape=shape, dtype=storage.dtype, read=read)
