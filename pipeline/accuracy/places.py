"""Which of the evaluation images a network was asked about, where not about all of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

type Places = NDArray[np.int64]


def places_key(key: str) -> str:
    """The name, among arrays by network, of the places that go with `key`; no network can be called so."""
    return f"{key}.images"


def checked_places(found: NDArray[Any], images: int) -> Places:
    """Places among so many images, as a file has them: in order, each once; what is none is a `ValueError`."""
    if found.dtype.kind not in "iu" or found.ndim != 1 or not 0 < len(found) <= images:
        raise ValueError(f"{found.dtype} {list(found.shape)} are no places among {images:,} images")
    if found.min() < 0 or found.max() >= images:
        raise ValueError(f"place {found.min() if found.min() < 0 else found.max()} is none of {images:,} images")
    places = found.astype(np.int64)
    if (np.diff(places) <= 0).any():
        raise ValueError("places are not in order, or not each there once")
    return places
