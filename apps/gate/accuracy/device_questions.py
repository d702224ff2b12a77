"""Results of devices as questions to the gate: does an artifact answer there as where it was exported?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rexnet_export.apps.bench.result.recompute import completed_result
from rexnet_export.apps.bench.result.result import predictions
from rexnet_export.apps.gate.accuracy.answers import Comparison
from rexnet_export.apps.gate.accuracy.evidence import Evidence
from rexnet_export.apps.gate.accuracy.predictions import Predictions
from rexnet_export.pipeline.core.errors import BaselineError, DataError
from rexnet_export.pipeline.data.sources import ImageSource, choose, images_sha256, match_labels

EXPORT = "the export"
SEED = re.compile(r"\[seed (\d{1,10}), \d+ images\]$")  # how a bundle names the images it chose


def device_question(candidate: Evidence, folder: Path, source: ImageSource) -> tuple[Comparison, str]:
    """One result of `rexnet-bench run` beside the same artifact's answers in the export, and a note on its durations.

    `source` has the labelled images of both; which of them the device ran on follows from the result, and is proven by
    their digest.
    """
    result = completed_result(folder)
    digest = result["bundle"]["model_sha256"]
    target = next((name for name, made in candidate.targets.items() if made.sha256 == digest), None)
    if target is None:
        raise BaselineError(
            f"{folder} ran {digest[:12]}, which is no artifact of {candidate.source}; bundle this export and run it"
        )
    classes = predictions(folder, result)
    if classes.max() >= len(candidate.images.class_names):
        raise DataError(f"{folder}: predictions.npy names class {classes.max()}, and the network has fewer")
    places = _places(candidate, folder, source, result)
    made = candidate.targets[target]
    right, told = int((classes == candidate.images.labels[places]).sum()), result["accuracy"]["top1"]
    if right != round(told * len(classes)):
        raise DataError(
            f"{folder}: top-1 is {told:.4f} there, and {right / len(classes):.4f} with the labels of "
            f"{candidate.source}; run the bundle again"
        )
    question = Comparison(
        target=target,
        name="device",
        reference_name=EXPORT,
        candidate=Predictions(
            file=made.file, sha256=digest, executed_by=_ran_by(result), classes=classes, places=places
        ),
        reference=made,
    )
    return question, " ".join(_durations(folder, result))


def _places(candidate: Evidence, folder: Path, source: ImageSource, result: Mapping[str, Any]) -> NDArray[np.int64]:
    """Where the device's images stand among the export's."""
    accuracy = result["accuracy"]
    chosen = SEED.search(accuracy["dataset_id"])
    matched = match_labels(source, candidate.images.class_names)
    indices = sorted(choose(matched, accuracy["n"], int(chosen[1]))) if chosen else []
    known = {name: place for place, name in enumerate(candidate.ids)}
    names = [matched.ids[index] for index in indices]
    if images_sha256(matched, indices) != accuracy["dataset_sha256"] or not all(name in known for name in names):
        raise BaselineError(
            f"{folder} ran on images that are not among those of {candidate.source}; bundle and export with the same "
            "--eval-data, and name that folder with --images"
        )
    return np.array([known[name] for name in names])


def _ran_by(result: Mapping[str, Any]) -> str:
    runtime, device = result["runtime"], result["device"]
    return f"{runtime['name']} {runtime['version']} on {device['model'] or device['arch'] or device['kind']}"


def _durations(folder: Path, result: Mapping[str, Any]) -> Iterator[str]:
    """A median only where the device's own controls call it valid."""
    validity, median = result["validity"], result["latency"]["p50_ns"]
    yield f"{folder}:"
    if validity["valid"] and median is not None:
        yield f"p50 {median / 1e6:.3f} ms, valid"
    else:
        yield f"durations are not to be trusted ({', '.join(validity['reasons']) or 'none'})"
