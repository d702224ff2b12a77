"""Proof that the float ONNX file computes what the torch network computes, on real images."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.images import require_images
from rexnet_export.pipeline.core.records import Preprocess
from rexnet_export.pipeline.graph.float_tracer import LOGITS, float_trace
from rexnet_export.pipeline.graph.onnx_outputs import Values, onnx_outputs
from rexnet_export.pipeline.graph.parity import TOLERANCE, OutputParity, Parity
from rexnet_export.pipeline.model.backbone import Backbone, named_outputs
from rexnet_export.pipeline.model.rexnet import ReXNet

PIXELS_AT_ONCE = 8 * 224 * 224


def check_parity(
    network: ReXNet | Backbone,
    onnx_path: Path,
    images: NDArray[np.uint8],
    preprocess: Preprocess,
    ids: Sequence[str] = (),
) -> Parity:
    """Run torch and ONNX Runtime, both on the CPU, on `images` [n, S, S, 3]; ConversionError where they disagree.

    An output may differ by `TOLERANCE` of its largest value; top-1 only on an image whose two best logits are closer
    to each other than torch's are to ONNX Runtime's. Puts `network` in evaluation mode. `ids` names the images in
    errors; without them they are numbered from 0.
    """
    require_images(images, (*preprocess.shape, preprocess.channels))
    parity = Parity(outputs={}, same_top1=None, n=0)
    overturned = 0
    for expected, actual in _output_pairs(network, onnx_path, images, preprocess, ids):
        apart = {name: np.abs(values - actual[name]) for name, values in expected.items()}
        same = None
        if LOGITS in expected:
            agree = expected[LOGITS].argmax(axis=1) == actual[LOGITS].argmax(axis=1)
            overturned += int((~agree & (_margin(expected[LOGITS]) > apart[LOGITS].max(axis=1))).sum())
            same = (parity.same_top1 or 0) + int(agree.sum())
        parity = Parity(
            outputs={name: _larger(parity.outputs.get(name), expected[name], apart[name]) for name in expected},
            same_top1=same,
            n=parity.n + len(next(iter(expected.values()))),
        )
    for name, output in parity.outputs.items():
        if overturned or output.largest_difference > TOLERANCE * output.largest:
            top1 = "" if parity.same_top1 is None else f", top-1 on {parity.n - parity.same_top1} of {parity.n} images"
            raise ConversionError(
                f"{onnx_path.name} is not the torch network: {name} differ by {output.largest_difference:.3g} where "
                f"they reach {output.largest:.3g}{top1}; report this with the checkpoint"
            )
    return parity


def _larger(before: OutputParity | None, expected: Values, apart: Values) -> OutputParity:
    difference, largest = float(apart.max()), float(np.abs(expected).max())
    if before is not None:
        difference, largest = max(difference, before.largest_difference), max(largest, before.largest)
    return OutputParity(largest_difference=difference, largest=largest)


def _margin(logits: Values) -> Values:
    best = np.sort(logits, axis=1)[:, -2:]
    margin: Values = best[:, -1] - best[:, 0]
    return margin


def _output_pairs(
    network: ReXNet | Backbone, onnx_path: Path, images: NDArray[np.uint8], preprocess: Preprocess, ids: Sequence[str]
) -> Iterator[tuple[dict[str, Values], dict[str, Values]]]:
    run = onnx_outputs(onnx_path)
    network.eval()
    batch = max(1, PIXELS_AT_ONCE // math.prod(preprocess.shape))
    for start in range(0, len(images), batch):
        pixels = np.ascontiguousarray(images[start : start + batch])
        expected, actual = _torch_outputs(network, pixels, preprocess), run(pixels)
        for name, values in expected.items():
            found = actual.get(name)
            if found is None or values.shape != found.shape:
                shape = "nothing" if found is None else str(list(found.shape))
                raise ConversionError(f"{onnx_path.name} gives {name} {shape}, torch {list(values.shape)}")
            bad = ~(np.isfinite(values) & np.isfinite(found)).reshape(len(values), -1).all(axis=1)
            if bad.any():
                place = int(bad.argmax())
                named = ids[start + place] if ids else f"image {start + place}"
                raise _not_finite(onnx_path, pixels[place : place + 1], named, name)
        yield expected, actual


def _not_finite(onnx_path: Path, pixels: NDArray[np.uint8], image: str, output: str) -> ConversionError:
    """The error that names the image, one of uint8 [1, S, S, 3], and the first tensor that is not finite on it."""
    values = float_trace(onnx_path).trace(pixels)
    first = next((name for name, found in values.items() if not np.isfinite(found).all()), output)
    return ConversionError(f"{onnx_path.name}: {first} is not finite on {image}; use another checkpoint")


def _torch_outputs(network: ReXNet | Backbone, pixels: NDArray[np.uint8], preprocess: Preprocess) -> dict[str, Values]:
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (preprocess.mean, preprocess.std))
    with torch.inference_mode():
        outputs = named_outputs(network, (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - mean) / std)
    return {name: values.numpy() for name, values in outputs.items()}
