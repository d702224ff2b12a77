"""Proof that the float ONNX file computes what the torch network computes, on real images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from rexnet_export.pipeline.core.errors import ConversionError, DataError, first_line
from rexnet_export.pipeline.core.records import Preprocess
from rexnet_export.pipeline.graph.float_tracer import float_trace
from rexnet_export.pipeline.model.rexnet import ReXNet

type Logits = NDArray[np.float32]

TOLERANCE = 1e-4
PIXELS_AT_ONCE = 8 * 224 * 224


@dataclass(frozen=True, kw_only=True)
class Parity:
    """Largest difference of a logit, the largest logit it is judged by, and how many of `n` images agree in top-1."""

    max_abs_difference: float
    largest_logit: float
    same_top1: int
    n: int


def check_parity(
    network: ReXNet, onnx_path: Path, images: NDArray[np.uint8], preprocess: Preprocess, ids: Sequence[str] = ()
) -> Parity:
    """Run torch and ONNX Runtime, both on the CPU, on `images` [n, S, S, 3]; ConversionError where they disagree.

    Logits may differ by `TOLERANCE` of the largest one; top-1 only on an image whose two best logits are closer
    to each other than torch's are to ONNX Runtime's. Puts `network` in evaluation mode. `ids` names the images in
    errors; without them they are numbered from 0.
    """
    side = preprocess.size
    if images.dtype != np.uint8 or images.shape != (len(images), side, side, 3) or not len(images):
        raise DataError(f"parity needs uint8 images [n, {side}, {side}, 3], got {images.dtype} {list(images.shape)}")
    difference, largest, same, overturned = 0.0, 0.0, 0, 0
    for expected, actual in _logit_pairs(network, onnx_path, images, preprocess, ids):
        apart = np.abs(expected - actual).max(axis=1)
        agree = expected.argmax(axis=1) == actual.argmax(axis=1)
        same += int(agree.sum())
        overturned += int((~agree & (_margin(expected) > apart)).sum())
        difference, largest = max(difference, float(apart.max())), max(largest, float(np.abs(expected).max()))
    if overturned or difference > TOLERANCE * largest:
        raise ConversionError(
            f"{onnx_path.name} is not the torch network: logits differ by {difference:.3g} where they reach "
            f"{largest:.3g}, top-1 on {len(images) - same} of {len(images)} images; report this with the checkpoint"
        )
    return Parity(max_abs_difference=difference, largest_logit=largest, same_top1=same, n=len(images))


def _margin(logits: Logits) -> Logits:
    best = np.sort(logits, axis=1)[:, -2:]
    margin: Logits = best[:, -1] - best[:, 0]
    return margin


def _logit_pairs(
    network: ReXNet, onnx_path: Path, images: NDArray[np.uint8], preprocess: Preprocess, ids: Sequence[str]
) -> Iterator[tuple[Logits, Logits]]:
    run = onnx_runner(onnx_path)
    network.eval()
    batch = max(1, PIXELS_AT_ONCE // preprocess.size**2)
    for start in range(0, len(images), batch):
        pixels = np.ascontiguousarray(images[start : start + batch])
        expected, actual = _torch_logits(network, pixels, preprocess), run(pixels)
        if expected.shape != actual.shape:
            raise ConversionError(f"{onnx_path.name} gives logits {list(actual.shape)}, torch {list(expected.shape)}")
        finite = np.isfinite(expected).all(axis=1) & np.isfinite(actual).all(axis=1)
        if not finite.all():
            place = int(finite.argmin())
            named = ids[start + place] if ids else f"image {start + place}"
            raise _not_finite(onnx_path, pixels[place : place + 1], named)
        yield expected, actual


def _not_finite(onnx_path: Path, pixels: NDArray[np.uint8], image: str) -> ConversionError:
    """The error that names the image, one of uint8 [1, S, S, 3], and the first tensor that is not finite on it."""
    values = float_trace(onnx_path).trace(pixels)
    first = next((name for name, found in values.items() if not np.isfinite(found).all()), "logits")
    return ConversionError(f"{onnx_path.name}: {first} is not finite on {image}; use another checkpoint")


def _torch_logits(network: ReXNet, pixels: NDArray[np.uint8], preprocess: Preprocess) -> Logits:
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (preprocess.mean, preprocess.std))
    with torch.inference_mode():
        logits: Logits = network((torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - mean) / std).numpy()
    return logits


def onnx_runner(onnx_path: Path) -> Callable[[NDArray[np.uint8]], Logits]:
    """ONNX Runtime on the CPU, its integers exact: uint8 [n, S, S, 3] -> float32 logits [n, classes]."""
    import onnxruntime  # noqa: PLC0415 - a second that only those who check should wait

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # Without VNNI, x86 adds pairs of products in 16 bits, which saturate; this keeps them exact.
    options.add_session_config_entry("session.x64quantprecision", "1")

    def run(pixels: NDArray[np.uint8]) -> Logits:
        try:
            (logits,) = session.run(["logits"], {"image": pixels})
        except Exception as error:
            raise ConversionError(f"ONNX Runtime cannot run {onnx_path.name}: {first_line(error)}") from error
        result: Logits = logits
        return result

    try:
        session = onnxruntime.InferenceSession(onnx_path, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ConversionError(f"ONNX Runtime cannot open {onnx_path.name}: {first_line(error)}") from error
    return run
