"""A result made of what a browser measured, by the same functions that the device runner uses."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rexnet_export.apps.device_runner import groups, phases
from rexnet_export.apps.device_runner.machine import changes
from rexnet_export.apps.device_runner.validity import latency_reasons
from rexnet_export.pipeline.device_results import finish, first_violation, violation, whole_folder
from rexnet_export.pipeline.errors import DeviceError
from rexnet_export.pipeline.staging import writing

UPLOAD_SCHEMA = "browser_upload.schema.json"
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
# What a browser says of its system, by what is found in it first.
KINDS = {"android": "android", "iphone": "ios", "ipad": "ios", "mac": "macos", "win": "windows"}
GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """An unpacked bundle: its folder, its `bundle.json`, and the plan as it is to be run."""

    folder: Path
    identity: Mapping[str, Any]
    plan: Mapping[str, Any]


def accept(content: bytes, bundle: Bundle, versions: Mapping[str, str], output: Path) -> dict[str, Any]:
    """Check an upload, make a result of it, and write it whole at `output`; `DeviceError` where it is no run."""
    upload = _checked(content)
    with whole_folder(output) as partial:
        result = _composed(upload, bundle, versions, partial)
        if problem := first_violation(result):
            raise DeviceError(f"the browser's measurements make no result: {problem}; run again")
        finish(partial, result)
    return result


def _checked(content: bytes) -> dict[str, Any]:
    schema = json.loads(files("rexnet_export.pipeline").joinpath(UPLOAD_SCHEMA).read_text(encoding="utf-8"))
    try:
        upload = json.loads(content, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise DeviceError(f"the upload is no JSON ({str(error)[:200]}); reload the page and run again") from error
    if problem := violation(upload, schema):
        raise DeviceError(f"the upload is not of this page: {problem}; reload the page and run again")
    found: dict[str, Any] = upload
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _composed(upload: dict[str, Any], bundle: Bundle, versions: Mapping[str, str], out: Path) -> dict[str, Any]:
    plan, unknown = (
        bundle.plan,
        {"environment": "a browser sees no heat and no load, and a battery only where it may"},
    )
    artifact = _artifact(upload["artifact"], plan)
    golden = np.load(bundle.folder / artifact["expected"], allow_pickle=False)
    labels = np.load(bundle.folder / "labels.npy", allow_pickle=False)
    logits = _logits(upload["logits"], plan["dataset"]["n"], golden.shape[1])
    latency, kernel = _latency(upload), tuple(upload["kernel"])
    few = phases.parity(logits[: plan["parity_images"]], golden, artifact["tolerance"])
    before, after = (_environment(battery) for battery in upload["battery"])
    with writing(out):
        np.save(out / "raw_latency.npy", groups.raw_latency(latency))
        for name, state in (("env_before.json", before), ("env_after.json", after)):
            (out / name).write_text(json.dumps(state, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        predictions = groups.save_predictions(out, logits)
    device = _device(upload["device"])
    groups.explain(device, "device", unknown, "a browser does not say")
    reasons = latency_reasons(latency, plan["minimum"], [], kernel)
    reasons += ["page_hidden"] if upload["hidden"] else []
    clocked = {"clock": "performance.now", "batch": 1, "scope": "pre+invoke+post"}
    memory = dict.fromkeys(("peak_rss_bytes", "delta_init_bytes", "delta_run_bytes"))
    groups.explain(memory, "memory", unknown, "a page does not see its memory")
    return {
        "schema_version": groups.SCHEMA_VERSION,
        "run_id": str(uuid.uuid4()),
        "started_at": upload["started_at"],
        "ended_at": groups.timestamp(),
        "tool": bundle.identity["created_by"],
        "bundle": groups.bundle_group(artifact, dict(bundle.identity)),
        "device": device,
        "runtime": _runtime(upload, versions, unknown),
        "controls": [],
        "environment": {
            "before": before,
            "after": after,
            "delta": changes(before, after),
            "reference_kernel_ns_before": kernel[0],
            "reference_kernel_ns_after": kernel[1],
        },
        "load": upload["load"],
        "latency": clocked | groups.latency_group(latency, plan["latency"], unknown),
        "paired": groups.paired_group(latency, plan["latency"]["seed"], unknown),
        "memory": {**memory, "method": "none"},
        "parity": phases.parity(logits, golden, artifact["tolerance"]) | {"verdict": few["verdict"]},
        "accuracy": phases.accuracy(logits, labels) | groups.dataset_group(plan["dataset"], predictions),
        "validity": {"valid": not reasons, "reasons": reasons},
        "not_measured": dict(sorted(unknown.items())),
    }


def _artifact(name: str, plan: Mapping[str, Any]) -> dict[str, Any]:
    for entry in plan["artifacts"]:
        if entry["file"] == f"model/{name}":
            found: dict[str, Any] = entry
            return found
    raise DeviceError(f"the upload is of {name[:100]!r}, which the bundle has not; reload the page and run again")


def _logits(text: str, images: int, classes: int) -> NDArray[np.float32]:
    try:
        values = np.frombuffer(base64.b64decode(text, validate=True), "<f4")
    except (ValueError, binascii.Error) as error:
        raise DeviceError(f"the upload's logits are no float32 numbers ({error}); run again") from error
    if values.size != images * classes:
        raise DeviceError(f"the upload has {values.size} logits, not {images} x {classes}; run again")
    if not np.isfinite(values).all():
        raise DeviceError("the upload has logits that are not finite; choose another artifact or processor")
    return values.reshape(images, classes)


def _latency(upload: dict[str, Any]) -> phases.Latency:
    blocks = []
    for pair, entry in enumerate(upload["pairs"]):
        arms = [block["arm"] for block in entry["blocks"]]
        if "cand" not in arms or len(set(arms)) != len(arms):
            raise DeviceError(f"pair {pair} of the upload has blocks of {arms}; run again")
        for order, block in enumerate(entry["blocks"]):
            started = float(block["started_s"])
            blocks.append(phases.Block(pair, block["arm"], order, started, None, block["durations_ns"]))
    kernels = [(entry["kernel"][0], entry["kernel"][1]) for entry in upload["pairs"]]
    if len({block.arm for block in blocks}) * len(kernels) != len(blocks):
        raise DeviceError("some pairs of the upload have a baseline and some have none; run again")
    return phases.Latency(blocks, kernels, float(upload["warmup_s"]))


def _environment(battery: dict[str, Any]) -> dict[str, Any]:
    return {**UNSEEN, "battery_pct": battery["percent"], "charging": battery["charging"]}


def _device(said: dict[str, Any]) -> dict[str, Any]:
    """The `device` group; the browser's own version stays out of the fingerprint, as a runtime's does."""
    system = said["platform"] or said["user_agent"]
    kind = next((kind for word, kind in KINDS.items() if re.search(word, system, re.IGNORECASE)), "linux")
    memory = said["memory_gib"]
    inputs = {key: said[key] for key in ("platform", "platform_version", "model", "architecture", "cores")}
    inputs["ram_gib"] = memory
    return {
        "fingerprint": hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest(),
        "fingerprint_inputs": inputs,
        "kind": kind,
        "manufacturer": None,
        "model": said["model"] or said["platform"],
        "soc": None,
        "board": None,
        "os_version": said["platform_version"] or None,
        "build_id": None,
        "kernel": None,
        "arch": said["architecture"] or "unknown",
        "cpu_parts": [],
        "isa_flags": [],
        "ram_bytes": round(memory * GIB) if memory else None,
        "serial_hash": None,
        "emulator": None,
    }


def _runtime(upload: dict[str, Any], versions: Mapping[str, str], unknown: dict[str, str]) -> dict[str, Any]:
    said = upload["runtime"]
    unknown["runtime.delegated_nodes"] = f"{said['name']} does not list its operators"
    unknown["runtime.wheel_sha256"] = "npm packages are pinned by their integrity instead"
    notes = {"artifact": upload["artifact"], "user_agent": upload["device"]["user_agent"]}
    notes |= {"cross_origin_isolated": str(said["isolated"]).lower()} | ({"gpu": said["gpu"]} if said["gpu"] else {})
    return {
        "name": said["name"],
        "version": versions[said["name"]],
        "wheel_sha256": None,
        "delegate_or_ep": said["backend"],
        "delegated_nodes": None,
        "total_nodes": None,
        "fully_delegated": None,
        "threads": said["threads"],
        "affinity_mask": None,
        "process_kind": "browser",
        "options": notes,
    }
