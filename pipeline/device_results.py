"""Two results of devices, image by image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rexnet_export.pipeline.errors import DeviceError, UsageError


def agreement(
    first_folder: Path, first: Mapping[str, Any], second_folder: Path, second: Mapping[str, Any]
) -> dict[str, float | int | None]:
    """Share of images with the same top-1, flipped images, both top-1, and the ratio of medians where both are valid.

    Results of the same images may be compared; of different lengths, the images both have.
    """
    if first["accuracy"]["dataset_sha256"] != second["accuracy"]["dataset_sha256"]:
        raise UsageError("the two results are of different images; compare runs of one bundle")
    ours, theirs = predictions(first_folder, first), predictions(second_folder, second)
    n = min(len(ours), len(theirs))
    same = ours[:n] == theirs[:n]
    valid = first["validity"]["valid"] and second["validity"]["valid"]
    return {
        "n": n,
        "top1_agreement": float(same.mean()),
        "flipped_images": int((~same).sum()),
        "top1_a": first["accuracy"]["top1"],
        "top1_b": second["accuracy"]["top1"],
        "p50_ratio_b_to_a": second["latency"]["p50_ns"] / first["latency"]["p50_ns"] if valid else None,
    }


def predictions(folder: Path, result: Mapping[str, Any]) -> NDArray[np.uint16]:
    """Top-1 of every image, as many as the result says."""
    place = (folder if folder.is_dir() else folder.parent) / "predictions.npy"
    try:
        found = np.load(place, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DeviceError(f"{place} cannot be read ({error}); run the bundle again") from error
    if not isinstance(found, np.ndarray) or found.dtype != np.uint16 or found.shape != (result["accuracy"]["n"],):
        raise DeviceError(f"{place} does not hold the {result['accuracy']['n']} predictions of its result; run again")
    return found
