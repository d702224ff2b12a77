"""A bundle on an iPhone or iPad: its predictions, the durations that the phone measured, and a result made of both.

Not run on Apple hardware: everything but coremltools and Xcode is tested with a phone that the interpreter plays.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from rexnet_export.apps.bench.apple.command import RUNTIME
from rexnet_export.apps.bench.apple.devicectl import KINDS, AppleDevice
from rexnet_export.apps.bench.result.host_result import (
    UNSEEN,
    Bundle,
    Seen,
    device_group,
    fill,
    unpacked,
    unseen_memory,
)
from rexnet_export.apps.bench.result.result import whole_folder
from rexnet_export.apps.bench.runner.coreml import Plan, planned, without_a_plan
from rexnet_export.apps.bench.runner.graph import Graph
from rexnet_export.apps.bench.runner.groups import explain, timestamp
from rexnet_export.apps.bench.runner.phases import Block, Images, Latency
from rexnet_export.apps.bench.runner.validity import amount_reasons
from rexnet_export.apps.bench.transports.posix import Control
from rexnet_export.pipeline.core.errors import DeviceError, UsageError
from rexnet_export.pipeline.core.progress import Progress
from rexnet_export.targets.coreml.array_form import array_form

SUFFIX = ".mlpackage"
APP = "coremltools' app"


class Loaded(Protocol):
    """A model on a phone."""

    def load_ns(self) -> int:
        """How long it took to load."""

    def predict(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], int]:
        """uint8 [1, S, S, 3] RGB -> float32 logits [classes], and the ns that the phone measured."""

    def plan(self) -> Plan:
        """Which unit runs which operation; `DeviceError` where the phone does not say."""

    def unload(self) -> None:
        """Let go of it."""


class Phone(Protocol):
    """A phone that runs models; every failure to reach it is a `DeviceError`."""

    def load(self, package: Path) -> Loaded:
        """Send a package in array form, and load it there."""


class Measured(NamedTuple):
    """What the model did on the phone."""

    load: dict[str, Any]
    logits: NDArray[np.float32]
    latency: Latency
    graph: Graph


def run_on(
    connection: AbstractContextManager[tuple[Phone, list[Control]]],
    found: AppleDevice,
    options: argparse.Namespace,
    progress: Progress,
) -> Mapping[str, Any]:
    """Run the bundle on a phone that the context reaches; only a whole result appears at `--output`."""
    with tempfile.TemporaryDirectory(prefix="rexnet-phone-") as name, whole_folder(options.output) as partial:
        bundle, started = unpacked(options.bundle, Path(name), options), timestamp()
        artifact = _artifact(bundle, options)
        package = array_form(bundle.folder / artifact["file"], bundle.folder / f"arrays{SUFFIX}")
        with connection as (phone, controls):
            measured = _measured(phone, package, bundle, options.device, progress)
        seen = _seen(measured, artifact, found, controls, started, bundle.plan)
        return fill(partial, seen, bundle)


def _artifact(bundle: Bundle, options: argparse.Namespace) -> dict[str, Any]:
    artifacts = [entry for entry in bundle.plan["artifacts"] if entry["file"].endswith(SUFFIX)]
    for entry in artifacts:
        if options.artifact in (None, entry["file"], Path(entry["file"]).name):
            chosen: dict[str, Any] = entry
            return chosen
    known = ", ".join(Path(entry["file"]).name for entry in artifacts) or f"no {SUFFIX}"
    raise UsageError(f"no artifact for {options.device} is as --artifact says; the bundle has {known}")


def _measured(phone: Phone, package: Path, bundle: Bundle, device: str, progress: Progress) -> Measured:
    plan = bundle.plan
    images = Images(bundle.folder, plan["dataset"]["batches"], plan["dataset"]["n"])
    with progress.stage(device, images.count, "images") as bar:
        bar.advance(0, note="load")
        model = phone.load(package)
        first_ns = model.predict(images.first())[1]
        load = {
            "cold_ns": model.load_ns(),
            "warm_ns": _loaded_again(phone, package, plan),
            "first_inference_ns": first_ns,
        }
        bar.advance(0, note="latency")
        latency = _timed(model, images, plan["latency"])
        logits = []
        for image in images:
            logits.append(model.predict(image)[0])
            bar.advance(note="accuracy")
        graph = _graph(model)
        model.unload()
    return Measured({**load, "first_inference_ns": first_ns}, np.stack(logits), latency, graph)


def _loaded_again(phone: Phone, package: Path, plan: Mapping[str, Any]) -> list[int]:
    durations = []
    for _ in range(int(plan["latency"]["warm_loads"])):
        model = phone.load(package)
        durations.append(model.load_ns())
        model.unload()
    return durations


def _timed(model: Loaded, images: Images, plan: Mapping[str, Any]) -> Latency:
    """Blocks of the candidate alone, until the budget is spent.

    None has a warm-up of its own, as every prediction comes after the pause in which files are copied.
    """
    image, began = images.first(), time.monotonic()
    for _ in range(int(plan["warmup_runs"])):
        model.predict(image)
    warmup_s, blocks = time.monotonic() - began, []
    for pair in range(int(plan["pairs"])):
        started = time.monotonic() - began
        durations = [model.predict(image)[1] for _ in range(int(plan["block_runs"]))]
        blocks.append(Block(pair, "cand", 0, started, None, durations))
        if time.monotonic() - began > float(plan["budget_s"]):
            break
    return Latency(blocks, [], warmup_s)


def _graph(model: Loaded) -> Graph:
    try:
        return planned(model.plan())
    except DeviceError as error:
        # What it comes from, as the message itself names the very device.
        return without_a_plan(error.__cause__ or error)


def _seen(
    measured: Measured,
    artifact: Mapping[str, Any],
    found: AppleDevice,
    controls: list[Control],
    started: str,
    plan: Mapping[str, Any],
) -> Seen:
    device = _device(found)
    unknown = {
        "bundle.opset": "the artifact does not say",
        "device.serial_hash": "serial numbers are never read",
        "environment": f"{APP} tells nothing of heat, load and battery",
        "paired": f"only the candidate is timed, as {APP} does not tell whether the phone slowed down",
        "runtime.wheel_sha256": "Core ML is a part of the system",
    } | unseen_memory(f"{APP} does not tell")
    explain(device, "device", unknown, "devicectl does not say")
    if measured.graph.total_nodes is None:
        unknown["runtime.delegated_nodes"] = unknown["runtime.total_nodes"] = "the phone told no compute plan"
    return Seen(
        artifact=artifact,
        started_at=started,
        device=device,
        runtime=_runtime(measured.graph, artifact, plan["threads"]),
        controls=controls,
        states=(dict(UNSEEN), dict(UNSEEN)),
        kernel=(None, None),
        load=measured.load,
        clock="mach_absolute_time",
        scope="invoke_only",
        latency=measured.latency,
        logits=measured.logits,
        reasons=["unwatched", *amount_reasons(measured.latency, plan["minimum"])],
        unknown=unknown,
    )


def _device(found: AppleDevice) -> dict[str, Any]:
    """The `device` group; neither the name that its owner gave it nor its numbers are written."""
    inputs = {
        "manufacturer": "Apple",
        "model": found.model,
        "arch": found.arch,
        "os_version": found.os_version,
        "build_id": found.build,
    }
    return device_group(inputs, inputs | {"kind": KINDS[found.type]})


def _runtime(graph: Graph, artifact: Mapping[str, Any], threads: int) -> dict[str, Any]:
    total, taken = graph.total_nodes, graph.delegated_nodes
    form = "float32 array for the image, no classifier"
    return {
        "name": RUNTIME,
        "version": version(RUNTIME),
        "wheel_sha256": None,
        "delegate_or_ep": graph.executed_by,
        "delegated_nodes": taken,
        "total_nodes": total,
        "fully_delegated": None if total is None else taken == total,
        "threads": threads,
        "affinity_mask": None,
        "process_kind": "foreground_app",
        "options": {**graph.notes, "artifact": Path(artifact["file"]).name, "form": form},
    }
