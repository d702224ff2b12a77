"""Results of devices that are believed: finished, unaltered, and saying no more than their raw arrays show."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rexnet_export.apps.bench.result.result import DONE_FILE, RESULT_FILE, read_result
from rexnet_export.apps.bench.runner import phases
from rexnet_export.apps.bench.runner.validity import MINIMUM
from rexnet_export.pipeline.core.array_files import read_array
from rexnet_export.pipeline.core.errors import DataError
from rexnet_export.pipeline.core.records import file_sha256
from rexnet_export.pipeline.core.untrusted import read_untrusted, require_untrusted
from rexnet_export.pipeline.timing.blocks import steady
from rexnet_export.pipeline.timing.summary import describe, median, paired_ratio

ARRAYS = ("raw_latency.npy", "predictions.npy", "logits.npy", "labels.npy", "expected.npy")
SUM_LINE = re.compile(r"([0-9a-f]{64})  ([A-Za-z0-9_]+\.[a-z]+)")
MOST_SUMS, MOST_BYTES = 2**16, 2**30
CLOSE = 1e-6  # relative: another numpy may sum in another order
AGAIN = "run the bundle again"

type Arrays = Mapping[str, NDArray[Any]]


def completed_result(path: Path) -> dict[str, Any]:
    """A result of `rexnet-bench run`; `DataError` says what of it is not what was measured."""
    folder = path if path.is_dir() else path.parent
    result = read_result(path)
    _require_unaltered(folder)
    arrays = {name: _array(folder / name) for name in ARRAYS}
    differences = [difference for found in _recomputed(result, arrays) if (difference := _difference(result, *found))]
    if differences:
        raise DataError(f"{folder}: {RESULT_FILE} is not what was measured: {'; '.join(differences)}; {AGAIN}")
    return result


def _require_unaltered(folder: Path) -> None:
    """Every file is as it was when the run was done."""
    try:
        text = read_untrusted(folder / DONE_FILE, MOST_SUMS).decode("utf-8", "replace")
    except OSError as error:
        raise DataError(
            f"{folder} has no {DONE_FILE} ({error.strerror}): its run was not completed; {AGAIN}"
        ) from error
    lines = [SUM_LINE.fullmatch(line) for line in text.splitlines()]
    sums = {match.group(2): match.group(1) for match in lines if match}
    if None in lines or not {RESULT_FILE, *ARRAYS} <= set(sums):
        raise DataError(f"{folder}: {DONE_FILE} does not name the files of a run of this version; {AGAIN}")
    for name, digest in sums.items():
        try:
            require_untrusted(folder / name, MOST_BYTES)
            same = file_sha256(folder / name) == digest
        except OSError as error:
            raise DataError(f"{folder}: {name} cannot be read ({error.strerror}); {AGAIN}") from error
        if not same:
            raise DataError(f"{folder}: {name} is not what its result was made from; {AGAIN}")


def _array(path: Path) -> NDArray[Any]:
    try:
        return read_array(path, MOST_BYTES)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); {AGAIN}") from error


def _recomputed(result: Mapping[str, Any], arrays: Arrays) -> Iterator[tuple[str, object]]:
    """Where a value stands in the result, and what the arrays make of it."""
    logits, labels, expected = arrays["logits.npy"], arrays["labels.npy"], arrays["expected.npy"]
    n = result["accuracy"]["n"]
    if logits.dtype != np.float32 or logits.ndim != 2 or len(logits) != n or expected.shape != logits.shape:
        yield "accuracy.n", f"{list(logits.shape)} logits, {list(expected.shape)} expected"
        return
    if labels.dtype.kind not in "iu" or labels.shape != (n,):
        yield "accuracy.n", f"{list(labels.shape)} labels"
        return
    predictions = logits.argmax(1).astype("<u2")
    if not np.array_equal(predictions, arrays["predictions.npy"]):
        yield "accuracy.per_image_file", "other predictions than the logits'"
    yield "accuracy.predictions_sha256", hashlib.sha256(predictions.tobytes()).hexdigest()
    for key, value in phases.accuracy(logits, labels.astype(np.int64)).items():
        yield f"accuracy.{key}", value
    for key, value in phases.parity(logits, expected, {"largest": math.inf, "mean": math.inf, "step": None}).items():
        if key not in {"verdict", "max_quant_steps"}:  # these depend on limits that the bundle has
            yield f"parity.{key}", value
    yield from _latency(result, arrays["raw_latency.npy"])


def _latency(result: Mapping[str, Any], raw: NDArray[Any]) -> Iterator[tuple[str, object]]:
    if raw.dtype != np.int64 or raw.ndim != 2 or raw.shape[1] != 3 or not len(raw) or raw[:, 2].min() < 0:
        yield "latency.n", f"{list(raw.shape)} durations"
        return
    candidate = [int(duration) for _, arm, duration in raw.tolist() if arm == 1]
    if not candidate:
        yield "latency.n", 0
        return
    statistics, _ = describe(candidate)
    for key, value in statistics.items():
        yield f"latency.{key}", value
    medians = _block_medians(raw)
    for index, block in enumerate(result["latency"]["blocks"]):
        yield f"latency.blocks.{index}.median_ns", medians.get((block["pair"], block["arm"]))
    yield from _paired(result, medians)
    yield "validity.valid", not result["validity"]["reasons"]
    if result["validity"]["valid"] and (reasons := list(_doubts(result, candidate))):
        yield "validity.reasons", reasons


def _block_medians(raw: NDArray[Any]) -> dict[tuple[int, str], int]:
    """Median ns of each block, by its pair and arm."""
    blocks: dict[tuple[int, str], list[int]] = {}
    for pair, arm, duration in raw.tolist():
        blocks.setdefault((pair, "cand" if arm == 1 else "base"), []).append(duration)
    return {block: median(durations) for block, durations in blocks.items()}


def _paired(result: Mapping[str, Any], medians: Mapping[tuple[int, str], int]) -> Iterator[tuple[str, object]]:
    """The ratio follows from the raw durations where all pairs counted; which did not is only in the result."""
    pairs = sorted({pair for pair, arm in medians if arm == "base"} & {pair for pair, arm in medians if arm == "cand"})
    paired = result["paired"]
    if not pairs or paired["pairs"] != len(pairs):
        if paired["pairs"] > len(pairs):
            yield "paired.pairs", len(pairs)
        return
    ratios = [medians[pair, "cand"] / medians[pair, "base"] for pair in pairs if medians[pair, "base"]]
    found = paired_ratio(ratios, paired["seed"]) or {}
    for key in ("ratio_median", "ci_low", "ci_high"):
        yield f"paired.{key}", found.get(key)


def _doubts(result: Mapping[str, Any], candidate: list[int]) -> Iterator[str]:
    """Reasons against durations that the result itself shows, though it calls them valid."""
    kernel = [result["environment"][f"reference_kernel_ns_{when}"] for when in ("before", "after")]
    if None not in kernel and not steady(*kernel):
        yield "clock_changed"
    if result["device"]["emulator"]:
        yield "emulated_timing"
    if len(candidate) < MINIMUM["queries"]:
        yield "min_queries"
    if sum(candidate) / 1e9 < MINIMUM["duration_s"]:
        yield "min_duration"


def _difference(result: Mapping[str, Any], where: str, value: object) -> str:
    """How the result departs from a value; nothing where it does not."""
    said: Any = result
    for step in where.split("."):
        said = said[int(step)] if isinstance(said, list) else said.get(step)
    return "" if _same(said, value) else f"{where} says {said!r:.60}, the raw arrays {value!r:.60}"


def _same(said: object, value: object) -> bool:
    if isinstance(value, Mapping) and isinstance(said, Mapping):
        return set(said) == set(value) and all(_same(said[key], value[key]) for key in value)
    if isinstance(said, float) or isinstance(value, float):
        numbers = isinstance(said, int | float) and isinstance(value, int | float)
        return numbers and math.isclose(float(str(said)), float(str(value)), rel_tol=CLOSE, abs_tol=CLOSE)
    return said == value
