"""One run of a bundle on a device: send, run, fetch, check, and leave nothing behind."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rexnet_export.apps.bench.result.recompute import ARRAYS, MOST_BYTES, SUM_LINE
from rexnet_export.apps.bench.result.result import DONE_FILE, RESULT_FILE, finish, read_result, whole_folder
from rexnet_export.apps.bench.transports.device_lock import MOST_RUN_S, own_folder
from rexnet_export.apps.bench.transports.posix import Transport
from rexnet_export.pipeline.core.errors import DeviceError, ExportError, TargetUnavailable, UsageError
from rexnet_export.pipeline.core.progress import Progress
from rexnet_export.pipeline.core.records import file_sha256

PHASES = ("verify", "identify", "idle gate", "parity", "latency", "accuracy", "profile", "restore", "validity", "done")
FILES = ("env_before.json", "env_after.json", *ARRAYS, RESULT_FILE)
OPTIONAL_FILES = ("sustained.json",)
# Valid, parity failed, invalid measurement: after these a result is there.
FINISHED = (0, 1, 4)
FAILURES: Mapping[int, type[ExportError]] = {2: UsageError, 13: TargetUnavailable}
# What is set for this machine's processor must not reach a device of another kind.
ENVIRONMENT = {"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to run: a checked bundle, the device's Python, the runner's flags, seconds to wait, and where to put it."""

    bundle: Path
    python: str
    flags: tuple[str, ...]
    timeout: float
    output: Path


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A finished run: its folder here, its result, and the runner's exit code."""

    folder: Path
    result: Mapping[str, Any]
    code: int


def run_bundle(request: Request, device: Transport, progress: Progress) -> Outcome:
    """Run a bundle on a device. Only a whole result appears at `request.output`; the device's folder is deleted, or
    named in the error where the device can no longer be reached."""
    if request.timeout > MOST_RUN_S:
        raise UsageError(
            f"--timeout {request.timeout:g}: a run keeps others off the device for {MOST_RUN_S} s at most; name less"
        )
    run_id = str(uuid.uuid4())
    with whole_folder(request.output) as partial:
        device.connect()
        with own_folder(device, run_id) as folder:
            code, result = _on_device(request, device, folder, run_id, partial, progress)
        finish(partial, result)
    return Outcome(folder=request.output, result=result, code=code)


def _on_device(
    request: Request, device: Transport, folder: str, run_id: str, partial: Path, progress: Progress
) -> tuple[int, dict[str, Any]]:
    with progress.stage(f"{device.name}", len(PHASES) + 1, "phases") as bar:

        def heard(line: str) -> None:
            if line.startswith("phase: "):
                bar.advance(note=line.removeprefix("phase: "))
            elif line.startswith("note: "):
                progress.note(f"{device.name}: {line.removeprefix('note: ')}")

        bar.advance(note="push")
        remote = f"{folder}/bundle.zip"
        device.push(request.bundle, remote)
        before = device.state()
        flags = ("--out", f"{folder}/out", "--run-id", run_id, "--process-kind", device.process_kind, *request.flags)
        with device.controlled() as controls:
            done = device.run(
                (request.python, remote, *flags),
                cwd=folder,
                environment=ENVIRONMENT,
                timeout=request.timeout,
                heard=heard,
            )
        if done.code not in FINISHED:
            raise FAILURES.get(done.code, DeviceError)(f"{device.name}: {_explained(done.code, done.said(), request)}")
        after = device.state()
        result = _fetched(device, f"{folder}/out", partial, run_id)
    return done.code, _with_host_facts(result, controls, before, after)


def _explained(code: int, said: str, request: Request) -> str:
    if code == 127:
        return f"there is no {request.python!r} ({said}); name the device's Python with --python"
    return said.removeprefix("device runner: ")


def _fetched(device: Transport, remote: str, partial: Path, run_id: str) -> dict[str, Any]:
    """Pull every file that DONE names, compare digests, and read the result."""
    device.pull(f"{remote}/{DONE_FILE}", partial / DONE_FILE, 2**16)
    text = (partial / DONE_FILE).read_text(encoding="utf-8", errors="replace")
    lines = [SUM_LINE.fullmatch(line) for line in text.splitlines()]
    sums = {match.group(2): match.group(1) for match in lines if match}
    if None in lines or not set(FILES) <= set(sums) <= {*FILES, *OPTIONAL_FILES}:
        raise DeviceError(f"{device.name}: {DONE_FILE} does not name the files of a run; run it again")
    for name, digest in sums.items():
        device.pull(f"{remote}/{name}", partial / name, MOST_BYTES)
        if file_sha256(partial / name) != digest:
            raise DeviceError(f"{device.name}: {name} did not arrive whole (hash mismatch); run it again")
    result = read_result(partial / RESULT_FILE)
    if result["run_id"] != run_id:
        raise DeviceError(f"{device.name}: {RESULT_FILE} is of another run ({result['run_id']}); run it again")
    return result


def _with_host_facts(
    result: dict[str, Any], controls: list[dict[str, Any]], before: dict[str, Any], after: dict[str, Any]
) -> dict[str, Any]:
    """The device's result with what was asked of it and read from outside."""
    environment = result["environment"]
    found = {
        **environment,
        "before": environment["before"] | before,
        "after": environment["after"] | after,
    }
    hot = max(before.get("thermal_status", 0), after.get("thermal_status", 0)) > 0
    reasons = result["validity"]["reasons"] + (["too_hot"] if hot else [])
    validity = {"valid": not reasons, "reasons": list(dict.fromkeys(reasons))}
    unknown = result["not_measured"]
    if "thermal_status" in before:
        unknown = {key: reason for key, reason in unknown.items() if key != "environment.thermal_status"}
    return result | {
        "controls": [*result["controls"], *controls],
        "environment": found,
        "validity": validity,
        "not_measured": unknown,
    }
