"""A result of a device where the runner does not run: made here of what was learnt, by the runner's own functions."""

from __future__ import annotations

import argparse
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rexnet_export.apps.bench.result.record import DeviceResult
from rexnet_export.apps.bench.result.result import finish
from rexnet_export.apps.bench.runner import groups, phases
from rexnet_export.apps.bench.runner.archive import PLAN_FILE, open_archive
from rexnet_export.apps.bench.runner.failure import RunnerError
from rexnet_export.apps.bench.runner.machine import changes, fingerprint
from rexnet_export.apps.bench.runner.plan import adjusted
from rexnet_export.pipeline.core.array_files import read_array
from rexnet_export.pipeline.core.errors import ConversionError, DataError, DeviceError, UsageError
from rexnet_export.pipeline.core.files import writing

# A device's state where nothing is told of it.
UNSEEN: Mapping[str, Any] = {
    "temps_c": [],
    "thermal_status": None,
    "battery_pct": None,
    "battery_temp_c": None,
    "charging": None,
    "loadavg_1m": None,
    "cpu_freq_khz": [],
    "governor": [],
    "time_in_state": {},
    "mem_available_bytes": None,
    "throttle_events": None,
    "voluntary_ctxt_switches": None,
    "nonvoluntary_ctxt_switches": None,
}
UNTOLD: Mapping[str, Any] = {
    "manufacturer": None,
    "soc": None,
    "board": None,
    "build_id": None,
    "kernel": None,
    "cpu_parts": [],
    "isa_flags": [],
    "ram_bytes": None,
    "serial_hash": None,
    "emulator": None,
}
MOST_ARRAY_BYTES = 2**30
MEMORY = ("peak_rss_bytes", "delta_init_bytes", "delta_run_bytes")


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """An unpacked bundle: its folder, its `bundle.json`, and the plan as it is to be run."""

    folder: Path
    identity: Mapping[str, Any]
    plan: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What was learnt of a run: groups of the result that are ready, and measurements.

    `logits` are float32 [n, classes] of the first n images, `states` and `kernel` of before and after, `reasons`
    those for which durations are worthless, `unknown` says why a value is null.
    """

    artifact: Mapping[str, Any]
    started_at: str
    device: Mapping[str, Any]
    runtime: Mapping[str, Any]
    controls: Sequence[Mapping[str, Any]]
    states: tuple[dict[str, Any], dict[str, Any]]
    kernel: tuple[int | None, int | None]
    load: Mapping[str, Any]
    clock: Literal["performance.now", "mach_absolute_time"]
    scope: Literal["invoke_only", "pre+invoke+post"]
    latency: phases.Latency
    logits: NDArray[np.float32]
    reasons: Sequence[str]
    unknown: Mapping[str, str]


def unpacked(archive: Path, folder: Path, options: argparse.Namespace) -> Bundle:
    """Check a bundle, and unpack it into an empty folder; its plan is changed as the command line says."""
    try:
        opened = open_archive(archive)
        identity = opened.check()
        plan = adjusted(opened.read_object(PLAN_FILE), options)
        opened.unpack(folder)
    except RunnerError as error:
        raise (UsageError if error.exit_code == UsageError.exit_code else DataError)(str(error)) from error
    return Bundle(folder=folder, identity=identity, plan=plan)


def fill(partial: Path, seen: Seen, bundle: Bundle) -> dict[str, Any]:
    """Write every file of a result into an empty folder; `DeviceError` where what was learnt makes none."""
    with writing(partial):
        np.save(partial / "raw_latency.npy", groups.raw_latency(seen.latency))
        for name, state in zip(("env_before.json", "env_after.json"), seen.states, strict=True):
            (partial / name).write_text(json.dumps(state, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        predictions = groups.save_predictions(partial, seen.logits)
        golden, labels = bundled(bundle, seen.artifact["expected"]), bundled(bundle, "labels.npy")
        groups.save_truth(partial, labels, golden, len(seen.logits))
    result = _composed(seen, bundle, predictions)
    try:
        DeviceResult.checked(json.dumps(result))
    except ConversionError as error:
        raise DeviceError(f"what was measured there makes no result: {error}; run again") from error
    finish(partial, result)
    return result


def device_group(inputs: dict[str, Any], told: Mapping[str, Any]) -> dict[str, Any]:
    """The `device` group with the fingerprint of `inputs`; what was not told of the device is null."""
    return {**fingerprint(inputs), **UNTOLD, **told}


def unseen_memory(reason: str) -> dict[str, str]:
    """Why nothing is known of the device's memory, for every value of that group."""
    return {f"memory.{key}": reason for key in MEMORY}


def bundled(bundle: Bundle, name: str) -> NDArray[Any]:
    """An array of the bundle, which may come from anywhere."""
    try:
        return read_array(bundle.folder / name, MOST_ARRAY_BYTES)
    except (OSError, ValueError) as error:
        raise DataError(f"{name} in the bundle cannot be read ({error}); make the bundle again") from error


def _composed(seen: Seen, bundle: Bundle, predictions: str) -> dict[str, Any]:
    """The result; the verdict is of the first images, the numbers beside it of all."""
    plan, tolerance = bundle.plan, seen.artifact["tolerance"]
    golden, labels = bundled(bundle, seen.artifact["expected"]), bundled(bundle, "labels.npy")
    few = phases.parity(seen.logits[: plan["parity_images"]], golden, tolerance)
    unknown: dict[str, str] = {}
    latency = groups.latency_group(seen.latency, plan["latency"], unknown)
    paired = groups.paired_group(seen.latency, plan["latency"]["seed"], unknown)
    (before, after), kernel = seen.states, seen.kernel
    return {
        "schema_version": groups.SCHEMA_VERSION,
        "run_id": str(uuid.uuid4()),
        "started_at": seen.started_at,
        "ended_at": groups.timestamp(),
        "tool": bundle.identity["created_by"],
        "bundle": groups.bundle_group(dict(seen.artifact), dict(bundle.identity)),
        "device": dict(seen.device),
        "runtime": dict(seen.runtime),
        "controls": [dict(control) for control in seen.controls],
        "environment": {
            "before": before,
            "after": after,
            "delta": changes(before, after),
            "reference_kernel_ns_before": kernel[0],
            "reference_kernel_ns_after": kernel[1],
        },
        "load": dict(seen.load),
        "latency": {"clock": seen.clock, "batch": 1, "scope": seen.scope} | latency,
        "paired": paired,
        "memory": {**dict.fromkeys(MEMORY), "method": "none"},
        "parity": phases.parity(seen.logits, golden, tolerance) | {"verdict": few["verdict"]},
        "accuracy": phases.accuracy(seen.logits, labels) | groups.dataset_group(plan["dataset"], predictions),
        "validity": {"valid": not seen.reasons, "reasons": list(seen.reasons)},
        "not_measured": dict(sorted((unknown | dict(seen.unknown)).items())),
    }
