"""A result made of what a browser measured, by the same functions that the device runner uses."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rexnet_export.apps.bench.browser.upload import Upload
from rexnet_export.apps.bench.result.host_result import (
    UNSEEN,
    Bundle,
    Seen,
    bundled,
    device_group,
    fill,
    unseen_memory,
)
from rexnet_export.apps.bench.result.result import whole_folder
from rexnet_export.apps.bench.runner import groups, phases
from rexnet_export.apps.bench.runner.validity import latency_reasons
from rexnet_export.pipeline.core.errors import ConversionError, DeviceError

# What a browser says of its system, by what is found in it first.
KINDS = {"android": "android", "iphone": "ios", "ipad": "ios", "mac": "macos", "win": "windows"}
GIB = 2**30


def accept(content: bytes, bundle: Bundle, versions: Mapping[str, str], output: Path) -> dict[str, Any]:
    """Check an upload, make a result of it, and write it whole at `output`; `DeviceError` where it is no run."""
    try:
        upload = Upload.checked(content)
    except ConversionError as error:
        raise DeviceError(f"the upload is not of this page: {error}; reload the page and run again") from error
    seen = _seen(upload, bundle, versions)
    with whole_folder(output) as partial:
        return fill(partial, seen, bundle)


def _seen(upload: dict[str, Any], bundle: Bundle, versions: Mapping[str, str]) -> Seen:
    plan = bundle.plan
    artifact = _artifact(upload["artifact"], plan)
    classes = bundled(bundle, artifact["expected"]).shape[1]
    latency, kernel = _latency(upload), (upload["kernel"][0], upload["kernel"][1])
    before, after = (_environment(battery) for battery in upload["battery"])
    unknown = {"environment": "a browser sees no heat and no load, and a battery only where it may"}
    unknown |= unseen_memory("a page does not see its memory")
    device = _device(upload["device"])
    groups.explain(device, "device", unknown, "a browser does not say")
    return Seen(
        artifact=artifact,
        started_at=upload["started_at"],
        device=device,
        runtime=_runtime(upload, versions, unknown),
        controls=(),
        states=(before, after),
        kernel=kernel,
        load=upload["load"],
        clock="performance.now",
        scope="pre+invoke+post",
        latency=latency,
        logits=_logits(upload["logits"], plan["dataset"]["n"], classes),
        reasons=[
            *latency_reasons(latency, plan["minimum"], [], kernel),
            *(["page_hidden"] if upload["hidden"] else []),
        ],
        unknown=unknown,
    )


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
    told = {
        "kind": kind,
        "model": said["model"] or said["platform"],
        "os_version": said["platform_version"] or None,
        "arch": said["architecture"] or "unknown",
        "ram_bytes": round(memory * GIB) if memory else None,
    }
    return device_group(inputs, told)


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
