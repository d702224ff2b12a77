"""What a session gives for an image: its named outputs, and all of them as one row of numbers."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray


def are_outputs(names: Collection[str]) -> bool:
    """Whether a file of ours may give these: the logits alone, or a backbone's feature maps."""
    return bool(names) and (list(names) == ["logits"] or all(name.startswith("features.") for name in names))


def answer(outputs: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    """What `Session.run` gives: the logits [N, classes]; of a backbone the mean of every channel of every output."""
    parts = [values if values.ndim == 2 else values.mean((2, 3)) for values in outputs.values()]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
