"""A file that is run among others, whose failure is its own."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.outputs import LOG_PROBABILITIES, LOGITS, network_outputs
from rexnet_export.pipeline.proof.examine import File

NOTHING = np.zeros(0, np.float32)


class Careful:
    """A session whose failure is kept instead of raised; it gives zeros from then on.

    `gives_logarithms` says, once it has run, that the file gives probabilities alone.
    """

    def __init__(self, file: File, classes: int) -> None:
        self._file, self._classes = file, classes
        self.failure = ""
        self.gives_logarithms = False
        self.executed_by, self.timed = file.executed_by, file.timed

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The file's logits, or log-probabilities, while it lives."""
        if not self.failure:
            try:
                outputs = network_outputs(self._file.outputs(images))
                self.gives_logarithms = LOG_PROBABILITIES in outputs
                logits = outputs.get(LOG_PROBABILITIES if self.gives_logarithms else LOGITS, NOTHING)
                if logits.shape == (len(images), self._classes) and np.isfinite(logits).all():
                    return logits
                self.failure = f"{self.executed_by} gave logits that are not finite, or not one a class"
            except ConversionError as error:
                self.failure = str(error)
        return np.zeros((len(images), self._classes), np.float32)

    def trace(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """The file's own."""
        return self._file.trace(images)
