"""Golden images and logits inside every file, so that it can show anywhere that it still computes what it did.

The images travel as thumbnails; the input of a size is made of them by repeating pixels, which is exact everywhere.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rexnet_export.pipeline.artifact import fingerprints
from rexnet_export.pipeline.artifact.fingerprints import Parameters
from rexnet_export.pipeline.artifact.metadata import card_from
from rexnet_export.pipeline.artifact.target import OutputSession, Source, described
from rexnet_export.pipeline.core.errors import ConversionError, TargetUnavailable
from rexnet_export.pipeline.core.outputs import answer, network_outputs
from rexnet_export.pipeline.core.records import (
    RGB,
    AtLeastOne,
    Count,
    Measurement,
    NotMeasured,
    NotNegative,
    Preprocess,
    Text,
)
from rexnet_export.pipeline.data.sources import batches, bundled
from rexnet_export.quantization.table.params import QuantParams

THUMBNAIL = 32  # pixels of a side
GOLDEN_IMAGES = 4
MOST_IMAGES = 64
MOST_PIXELS = 2**28  # bytes of one enlarged input; a file cannot make its reader allocate more
LONGEST_RUNTIME = 200
IMAGES, INPUT_SHA256, LOGITS, EXECUTED_BY = "golden_images", "golden_sha256", "golden_logits", "golden_executed_by"
KEYS = (IMAGES, INPUT_SHA256, LOGITS, EXECUTED_BY)

LARGEST_STEPS, MEAN_STEPS = 16.0, 3.0
RELATIVE_TOLERANCE = {"fp32": 1e-3, "fp16": 1e-2}
UNTESTED = NotMeasured(reason="the file holds no golden logits: nothing executed it when it was written")


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """How far logits may be from the golden ones: any one of them, and all on average."""

    largest: NotNegative
    mean: NotNegative


@dataclass(frozen=True, kw_only=True)
class SelfTest:
    """A file's logits on its golden images beside those it gave when it was written.

    Differences and their `tolerance` are in the logits' unit, `largest_steps` in quantization steps of INT8 logits;
    `same_top1` counts images out of `n`.
    """

    passed: bool
    n: AtLeastOne
    largest_difference: NotNegative
    mean_difference: NotNegative
    tolerance: Tolerance
    largest_steps: NotNegative | None
    same_top1: Count
    executed_then: Text
    executed_now: Text


@dataclass(frozen=True, kw_only=True)
class Golden:
    """What a file's metadata holds: uint8 [n, S, S, 3] images, float32 [n, classes] logits, and who gave them."""

    images: NDArray[np.uint8]
    logits: NDArray[np.float32]
    executed_by: str


def sample_thumbnails(channels: int = RGB) -> NDArray[np.uint8]:
    """uint8 [4, 32, 32, C] of the images that come with the package: a model must not carry its owner's images.

    They are grey; where they are no photos, each channel is turned on, so that no two are the same.
    """
    shape = Preprocess(size=THUMBNAIL, crop_ratio=1.0)
    images = next(batches(bundled("evaluation"), shape, range(GOLDEN_IMAGES), GOLDEN_IMAGES))
    if channels == RGB:
        return images
    return np.stack([np.roll(images[..., 0], 3 * channel, axis=2) for channel in range(channels)], axis=-1)


def enlarge(small: NDArray[np.uint8], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """uint8 [n, 32, 32, C] -> [n, H, W, C] by repeating pixels."""
    down, across = (np.arange(side) * THUMBNAIL // side for side in shape)
    return np.ascontiguousarray(small[:, down[:, None], across[None, :]])


def carried(
    source: Source,
    open_file: Callable[[], OutputSession],
    qparams: Mapping[str, QuantParams],
    parameters: Parameters,
    metadata: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """What a file just written is to say of itself: its fingerprints, and golden logits where it can be executed.

    `metadata` is what it says already, where that is not `described(source)`.
    """
    golden: dict[str, str] = {}
    if source.golden is not None:
        with suppress(TargetUnavailable):
            golden = describe_golden(open_file(), source.golden, source.card.preprocess.shape)
    return golden | fingerprints.described(qparams, parameters, {**(metadata or described(source)), **golden})


def describe_golden(session: OutputSession, small: NDArray[np.uint8], shape: tuple[int, int]) -> dict[str, str]:
    """Execute a file on the enlarged thumbnails; the metadata entries that let it be compared with itself later."""
    images = enlarge(small, shape)
    logits = answer(network_outputs(session.outputs(images)))
    if not np.isfinite(logits).all():
        raise ConversionError(f"{session.executed_by} gave logits that are not finite; check the checkpoint's weights")
    return {
        IMAGES: base64.b64encode(zlib.compress(small.tobytes(), 9)).decode(),
        INPUT_SHA256: hashlib.sha256(images.tobytes()).hexdigest(),
        LOGITS: base64.b64encode(logits.astype("<f4").tobytes()).decode(),
        EXECUTED_BY: session.executed_by.partition(",")[0],  # the same file on every machine
    }


def check(
    session: OutputSession, metadata: Mapping[str, str], qparams: Mapping[str, QuantParams]
) -> Measurement[SelfTest]:
    """Execute a file on its own golden images; `qparams` are the file's own, for the step of INT8 logits."""
    golden = read_golden(metadata)
    if golden is None:
        return UNTESTED
    logits = answer(network_outputs(session.outputs(golden.images)))
    if logits.shape != golden.logits.shape:
        raise ConversionError(f"the model gives {logits.shape} logits, not {golden.logits.shape}; export it again")
    if not np.isfinite(logits).all():
        raise ConversionError(f"{session.executed_by} gave logits that are not finite; export the model again")
    differences = np.abs(logits.astype(np.float64) - golden.logits)
    largest, mean = float(differences.max()), float(differences.mean())
    step = qparams["logits"].scale[0] if "logits" in qparams else None
    limit = tolerance(golden.logits, metadata.get("precision", ""), step)
    return SelfTest(
        passed=largest <= limit.largest and mean <= limit.mean,
        n=len(logits),
        largest_difference=largest,
        mean_difference=mean,
        tolerance=limit,
        largest_steps=largest / step if step else None,
        same_top1=int((logits.argmax(1) == golden.logits.argmax(1)).sum()),
        executed_then=golden.executed_by,
        executed_now=session.executed_by,
    )


def tolerance(logits: NDArray[np.float32], precision: str, step: float | None) -> Tolerance:
    """What other kernels than those of then may differ by.

    The same runtime repeats INT8 exactly. Others round halves otherwise, and that adds up from layer to layer: over
    the kernels of LiteRT (XNNPACK, built-in, reference), of ONNX Runtime (INT8, UINT8, not optimized) and of the MIL
    interpreter, a rexnet_100 gave logits up to 13 steps apart, 1 on average, and every top-1 the same. Weights of one
    layer moved by one place are far beyond both.
    """
    if step:
        return Tolerance(largest=LARGEST_STEPS * step, mean=MEAN_STEPS * step)
    relative = RELATIVE_TOLERANCE.get(precision, RELATIVE_TOLERANCE["fp16"])
    largest = relative * float(np.abs(logits).max())
    return Tolerance(largest=largest, mean=largest)


def read_golden(metadata: Mapping[str, str]) -> Golden | None:
    """The golden images and logits of a file that may come from anywhere; None where it was written without."""
    present = [key for key in KEYS if key in metadata]
    if not present:
        return None
    if missing := sorted(set(KEYS) - set(present)):
        raise ConversionError(f"metadata has {present[0]!r} but no {missing[0]!r}: damaged; export the model again")
    card = card_from(metadata)
    (height, width), channels = card.preprocess.shape, card.preprocess.channels
    small = _thumbnails(metadata[IMAGES], channels)
    if len(small) * height * width * channels > MOST_PIXELS:
        raise ConversionError(
            f"metadata 'input_size' {height} x {width} is no size of an image classifier; export the model again"
        )
    images = enlarge(small, (height, width))
    if hashlib.sha256(images.tobytes()).hexdigest() != metadata[INPUT_SHA256]:
        raise _damaged(INPUT_SHA256, "the digest of the golden images")
    executed_by = metadata[EXECUTED_BY]
    if not executed_by.isprintable() or not 0 < len(executed_by) <= LONGEST_RUNTIME:
        raise _damaged(EXECUTED_BY, "the name of a runtime")
    return Golden(images=images, logits=_logits(metadata[LOGITS], len(small), card.answers), executed_by=executed_by)


def _thumbnails(text: str, channels: int) -> NDArray[np.uint8]:
    largest, image = MOST_IMAGES * THUMBNAIL**2 * channels, THUMBNAIL**2 * channels
    content = b""
    if len(text) <= 2 * largest:
        unpacking = zlib.decompressobj()
        try:
            # Never more bytes than the most images have, whatever a few bytes claim to unpack to.
            content = unpacking.decompress(base64.b64decode(text, validate=True), largest + 1)
        except (binascii.Error, ValueError, zlib.error) as error:
            raise _damaged(IMAGES, "compressed images") from error
        content = content if unpacking.eof else b""
    if not content or len(content) > largest or len(content) % image:
        raise _damaged(IMAGES, f"1 to {MOST_IMAGES} images of {THUMBNAIL} x {THUMBNAIL} pixels")
    return np.frombuffer(content, np.uint8).reshape(-1, THUMBNAIL, THUMBNAIL, channels)


def _logits(text: str, images: int, classes: int) -> NDArray[np.float32]:
    wanted = f"{images} x {classes} finite numbers"
    length = images * classes * 4
    try:
        content = base64.b64decode(text, validate=True) if len(text) == -(-length // 3) * 4 else b""
    except (binascii.Error, ValueError) as error:
        raise _damaged(LOGITS, wanted) from error
    logits = np.frombuffer(content, "<f4") if len(content) == length else np.empty(0, np.float32)
    if not logits.size or not np.isfinite(logits).all():
        raise _damaged(LOGITS, wanted)
    return logits.reshape(images, classes).astype(np.float32)


def _damaged(key: str, wanted: str) -> ConversionError:
    return ConversionError(f"metadata {key!r} is not {wanted}: the file is damaged; export the model again")
