"""The phases of one run in order, and the result made of what they found."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rexnet_export.apps.bench.runner import phases
from rexnet_export.apps.bench.runner.array_file import read_array
from rexnet_export.apps.bench.runner.graph import Graph
from rexnet_export.apps.bench.runner.groups import (
    SCHEMA_VERSION,
    bundle_group,
    dataset_group,
    explain,
    latency_group,
    paired_group,
    raw_latency,
    save_predictions,
    save_truth,
    timestamp,
)
from rexnet_export.apps.bench.runner.machine import changes, environment, identify, resident_bytes
from rexnet_export.apps.bench.runner.phase import say
from rexnet_export.apps.bench.runner.plan import Job
from rexnet_export.apps.bench.runner.runtimes import Session
from rexnet_export.apps.bench.runner.validity import latency_reasons


class Measured(NamedTuple):
    """What the model did on this device."""

    load: dict[str, Any]
    memory: dict[str, Any]
    verdict: str
    parity: dict[str, Any]
    latency: phases.Latency
    accuracy: dict[str, Any]
    graph: Graph
    kernel: tuple[int, int]


def run_phases(job: Job, folder: Path, options: argparse.Namespace, identity: dict[str, Any]) -> dict[str, Any]:
    """Identify, idle gate, parity, latency, accuracy, profile, sustained, restore; files go to `options.out`."""
    out, plan, started = options.out, job.plan, timestamp()
    unknown = {
        "device.serial_hash": "serial numbers are never read",
        "bundle.opset": "the artifact does not say",
        "environment.thermal_status": "this system has none",
    }
    say("identify")
    device = identify(options.emulator)
    say("idle gate")
    disturbed = phases.idle_gate(plan["idle"])
    before = environment()
    _write(out / "env_before.json", before)
    with _one_core(plan) as control:
        found = _measured(job, folder, options)
    say("restore")
    after = environment()
    _write(out / "env_after.json", after)
    np.save(out / "raw_latency.npy", raw_latency(found.latency))
    say("validity")
    reasons = _reasons(found, plan, disturbed, changes(before, after), device)
    memory = {**found.memory, "peak_rss_bytes": _peak()}
    explain(device, "device", unknown, "the device does not say")
    explain(memory, "memory", unknown, "the system does not say")
    scope = "pre+invoke+post" if job.runtime.name == "onnxruntime" else "invoke_only"
    clocked = {"clock": "perf_counter_ns", "batch": 1, "scope": scope}
    return {
        "schema_version": SCHEMA_VERSION,
        "run_id": options.run_id or str(uuid.uuid4()),
        "started_at": started,
        "ended_at": timestamp(),
        "tool": identity["created_by"],
        "bundle": bundle_group(job.artifact, identity),
        "device": device,
        "runtime": _runtime_group(job, found.graph, control, options, unknown),
        "controls": [control],
        "environment": {
            "before": before,
            "after": after,
            "delta": changes(before, after),
            "reference_kernel_ns_before": found.kernel[0],
            "reference_kernel_ns_after": found.kernel[1],
        },
        "load": found.load,
        "latency": clocked | latency_group(found.latency, plan["latency"], unknown),
        "paired": paired_group(found.latency, plan["latency"]["seed"], unknown),
        "memory": memory,
        "parity": {**found.parity, "verdict": found.verdict},
        "accuracy": found.accuracy,
        "validity": {"valid": not reasons, "reasons": reasons},
        "not_measured": dict(sorted(unknown.items())),
    }


def _measured(job: Job, folder: Path, options: argparse.Namespace) -> Measured:
    """Run the model in every phase; the verdict is of the first images, the numbers beside it of all."""
    dataset, tolerance = job.plan["dataset"], job.artifact["tolerance"]
    before = phases.reference_kernel()
    images = phases.Images(folder, dataset["batches"], dataset["n"])
    session, load, memory = _loaded(job, folder, images.first())
    say("parity")
    golden = read_array(folder / job.artifact["expected"])
    few = phases.Images(folder, dataset["batches"], min(job.plan["parity_images"], images.count))
    verdict = phases.parity(phases.logits_of(session, few), golden, tolerance)["verdict"]
    say("latency")
    latency = phases.measure_latency(_arms(job, folder, session), images.first(), job.plan["latency"])
    say("accuracy")
    logits = phases.logits_of(session, images)
    labels = read_array(folder / "labels.npy")
    predictions = save_predictions(options.out, logits)
    save_truth(options.out, labels, golden, len(logits))
    memory["delta_run_bytes"] = _grown(memory.pop("after_init"), resident_bytes())
    say("profile")
    graph = session.graph(folder / job.file, folder)
    if options.sustained > 0:
        say("sustained")
        _write(options.out / "sustained.json", phases.sustained(session, images.first(), options.sustained))
    return Measured(
        load=load,
        memory=memory,
        verdict=verdict,
        parity=phases.parity(logits, golden, tolerance),
        latency=latency,
        accuracy=phases.accuracy(logits, labels) | dataset_group(dataset, predictions),
        graph=graph,
        kernel=(before, phases.reference_kernel()),
    )


def _reasons(
    found: Measured, plan: dict[str, Any], disturbed: list[str], delta: dict[str, Any], device: dict[str, Any]
) -> list[str]:
    """Why the durations are worthless; none where nothing speaks against them."""
    reasons = latency_reasons(found.latency, plan["minimum"], disturbed, found.kernel)
    if delta["throttle_events"] and "throttled" not in reasons:
        reasons.append("throttled")
    return [*reasons, "emulated_timing"] if device["emulator"] else reasons


def _loaded(job: Job, folder: Path, image: NDArray[np.uint8]) -> tuple[Session, dict[str, Any], dict[str, Any]]:
    """Open the model for the first time in this process, run it, and open it a few more times."""
    model, threads = folder / job.file, job.plan["threads"]
    resident = resident_bytes()
    session, cold = _timed_open(job, model, threads)
    start = time.perf_counter_ns()
    session.run(image)
    first = time.perf_counter_ns() - start
    after_init = resident_bytes()
    warm = [_timed_open(job, model, threads)[1] for _ in range(int(job.plan["latency"]["warm_loads"]))]
    memory = {"delta_init_bytes": _grown(resident, after_init), "after_init": after_init, "method": "VmRSS, getrusage"}
    return session, {"cold_ns": cold, "warm_ns": warm, "first_inference_ns": first}, memory


def _timed_open(job: Job, model: Path, threads: int) -> tuple[Session, int]:
    start = time.perf_counter_ns()
    session = job.runtime.open(model, threads)
    return session, time.perf_counter_ns() - start


def _arms(job: Job, folder: Path, session: Session) -> dict[str, Session]:
    if job.artifact["reference"] is None:
        return {"cand": session}
    return {"base": job.runtime.open(folder / job.artifact["reference"], job.plan["threads"]), "cand": session}


def _runtime_group(
    job: Job, graph: Graph, control: dict[str, Any], options: argparse.Namespace, unknown: dict[str, str]
) -> dict[str, Any]:
    total, taken = graph.total_nodes, graph.delegated_nodes
    if graph.executed_by is None:
        unknown["runtime.delegate_or_ep"] = f"{job.runtime.name} does not list its operators"
    if taken is None:
        unknown["runtime.delegated_nodes"] = f"{job.runtime.name} does not say which nodes its delegate took"
    unknown["runtime.wheel_sha256"] = "an installed package does not know the wheel it came from"
    return {
        "name": job.runtime.name,
        "version": job.runtime.version,
        "wheel_sha256": None,
        "delegate_or_ep": graph.executed_by,
        "delegated_nodes": taken,
        "total_nodes": total,
        "fully_delegated": None if taken is None or total is None else taken == total,
        "threads": job.plan["threads"],
        "affinity_mask": control["asked"] if control["applied"] else None,
        "process_kind": options.process_kind,
        "options": {**graph.notes, "artifact": job.file.split("/")[-1], "python": sys.version.split()[0]}
        | {"numpy": np.__version__},
    }


@contextlib.contextmanager
def _one_core(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Keep a single thread on one core while the context is open; what came of it is in the yielded record."""
    control: dict[str, Any] = {"name": "affinity", "asked": None, "applied": False, "restored": None, "error": None}
    if plan["threads"] != 1 or not hasattr(os, "sched_setaffinity"):
        control["error"] = "not asked for" if plan["threads"] != 1 else "this system has none"
        yield control
        return
    allowed = os.sched_getaffinity(0)
    core = max(allowed)
    control["asked"] = hex(1 << core)
    try:
        os.sched_setaffinity(0, {core})
        control["applied"] = os.sched_getaffinity(0) == {core}
    except OSError as error:
        control["error"] = str(error)
    try:
        yield control
    finally:
        if control["applied"]:
            os.sched_setaffinity(0, allowed)
            control["restored"] = os.sched_getaffinity(0) == allowed


def _peak() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _grown(before: int | None, after: int | None) -> int | None:
    return after - before if before is not None and after is not None else None


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
