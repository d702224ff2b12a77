"""Arrays of a bundle: what a `.npy` header declares is compared with the file's size before memory is taken."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from rexnet_export.apps.bench.runner.failure import DAMAGED, RunnerError

MAGIC, MOST_HEADER = b"\x93NUMPY\x01\x00", 4096
KINDS = "biuf"  # booleans, integers, floats: nothing that runs
NPY: Any = npy  # its stubs lack types


def read_array(path: Path) -> NDArray[Any]:
    """Numbers as numpy's format 1.0 holds them; `RunnerError` where the file is anything else."""
    try:
        _require_plain(path)
        array: NDArray[Any] = np.load(path, allow_pickle=False)
    except Exception as error:  # numpy's reader of headers goes through Python's parser, which fails in many ways
        reason = next(iter(str(error).splitlines()), "")[:200] or type(error).__name__
        raise RunnerError(f"{path.name} is no array of numbers ({reason}); make the bundle again", DAMAGED) from error
    return array


def _require_plain(path: Path) -> None:
    with path.open("rb") as stream:
        start = stream.read(len(MAGIC) + 2)
        length = int.from_bytes(start[-2:], "little")
        if not start.startswith(MAGIC) or len(start) < len(MAGIC) + 2 or length > MOST_HEADER:
            raise ValueError(f"it has no header of at most {MOST_HEADER} bytes")
        stream.seek(len(MAGIC))
        shape, _, dtype = NPY.read_array_header_1_0(stream)
        follows = os.fstat(stream.fileno()).st_size - stream.tell()
    if dtype.kind not in KINDS or min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != follows:
        raise ValueError(
            f"its header declares {str(list(shape))[:80]} of {str(dtype)[:40]}, and {follows} bytes follow"
        )
