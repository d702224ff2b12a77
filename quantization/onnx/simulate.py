"""What a quantized network answers, computed by ONNX Runtime: the judge of every choice that quantization makes.

INT8 is simulated by the UINT8 QDQ graph with ONNX Runtime's optimizations: integer arithmetic, and fast on x86.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from rexnet_export.pipeline.core.errors import ConversionError, first_line
from rexnet_export.pipeline.machine.environment import usable_cores
from rexnet_export.pipeline.machine.onnx_session import exact_options, open_session

MOST_WORKERS = 4
GROUP_PIXELS, LARGEST_GROUP = 2**14, 4  # more at once takes memory and no less time

type Logits = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Score:
    """How close a network's logits are to the float network's.

    `sqnr_db` is 10 log10(signal power / noise power) over all logits, infinite for equal ones; `agreement` the
    fraction of images with the same top-1 class.
    """

    sqnr_db: float
    agreement: float


@dataclass(frozen=True, kw_only=True)
class Simulator:
    """Images uint8 [N, S, S, 3] and the float network's logits [N, classes] for them: what others are compared with."""

    images: NDArray[np.uint8]
    reference: Logits

    def first(self, images: int) -> Simulator:
        """The same judge with only its first images, for many cheap comparisons."""
        return Simulator(images=self.images[:images], reference=self.reference[:images])

    def within(self, pixels: int, fewest: int) -> Simulator:
        """The same judge with the images that the function `within` takes."""
        return self.first(len(within(self.images, pixels, fewest)))

    def logits(self, model: onnx.ModelProto) -> Logits:
        """Logits [N, classes] of a model with the float model's input and output."""
        return run(model, self.images)

    def score(self, model: onnx.ModelProto) -> Score:
        """Compare a (quantized) model with the float one on all images."""
        return compare(self.reference, self.logits(model))


def simulator(model: onnx.ModelProto, images: NDArray[np.uint8]) -> Simulator:
    """A judge of quantized forms of the float `model`, which is run once."""
    return Simulator(images=images, reference=run(model, images))


def threads() -> ThreadPoolExecutor:
    """A pool for work that releases the interpreter lock, as ONNX Runtime and numpy do: groups run side by side."""
    return ThreadPoolExecutor(workers())


def workers() -> int:
    """How many groups run side by side."""
    return min(MOST_WORKERS, usable_cores())


def run(model: onnx.ModelProto, images: NDArray[np.uint8]) -> Logits:
    """The first output [N, classes] of a model for uint8 images [N, S, S, 3].

    It depends on nothing but the model and the images: they are run in fixed groups, each on one thread.
    """
    if not len(images):
        raise ConversionError("no images are left to judge INT8 by; give a calibration folder with more images")
    session = open_session(model.SerializeToString(), "the network to simulate it", exact_options())
    source, output = session.get_inputs()[0].name, session.get_outputs()[0].name

    def run_group(group: NDArray[np.uint8]) -> Logits:
        try:
            found: Logits = session.run([output], {source: group})[0]
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            raise ConversionError(f"ONNX Runtime cannot run the network: {first_line(error)}") from error
        return found

    with threads() as pool:
        return np.concatenate(list(pool.map(run_group, groups(images))))


def within(images: NDArray[np.uint8], pixels: int, fewest: int = 1) -> NDArray[np.uint8]:
    """The first images [n, S, S, 3] that have so many pixels together, whatever their size; at least `fewest`."""
    return images[: max(fewest, pixels // math.prod(images.shape[1:3]))]


def groups(images: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """Images [N, S, S, 3] in the pieces that are run at once, small enough that all their activations fit in memory."""
    size = max(1, min(LARGEST_GROUP, GROUP_PIXELS // math.prod(images.shape[1:3])))
    for start in range(0, len(images), size):
        yield images[start : start + size]


def compare(reference: Logits, logits: Logits) -> Score:
    """Score of logits [N, classes] against the reference's."""
    agreement = float((reference.argmax(1) == logits.argmax(1)).mean())
    return Score(sqnr_db=sqnr_db(reference, logits), agreement=agreement)


def sqnr_db(signal: NDArray[np.floating], found: NDArray[np.floating]) -> float:
    """10 log10(signal power / power of the difference), in float64; infinite for equal arrays."""
    power = float(np.square(signal, dtype=np.float64).sum())
    noise = float(np.square(signal.astype(np.float64) - found).sum())
    return math.inf if noise == 0.0 else 10.0 * math.log10(power / noise) if power else -math.inf
