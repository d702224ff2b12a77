"""Trying every target, each in a process that may crash."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from signal import Signals
from typing import Any

from rexnet_export.apps.export.doctor.doctor_json import DoctorJson, ExtraJson, TargetJson
from rexnet_export.apps.export.npu.environment import find
from rexnet_export.pipeline.core.errors import TargetUnavailable
from rexnet_export.pipeline.core.extras import EXTRAS
from rexnet_export.pipeline.core.progress import Progress
from rexnet_export.pipeline.core.records import Measurement, NotMeasured, Text
from rexnet_export.pipeline.machine import child
from rexnet_export.pipeline.machine.environment import environment, usable_cores
from rexnet_export.targets import BROKEN

PATIENCE_S = 300.0


def examine(targets: Sequence[str], progress: Progress) -> DoctorJson:
    """What works of `targets`, and what is installed besides."""
    found: dict[str, TargetJson] = {}
    with progress.stage("trying targets", len(targets), "targets") as bar, ThreadPoolExecutor(usable_cores()) as pool:
        for name, target in zip(targets, pool.map(try_target, targets), strict=True):
            found[name] = target
            bar.advance(1, name)
    return DoctorJson(
        works=all(target.works for target in found.values()),
        targets=found,
        plugins_that_fail=tuple(BROKEN.values()),
        extras={
            extra.name: ExtraJson(purpose=extra.purpose, missing=extra.missing, command=extra.command)
            for extra in EXTRAS
        },
        npu_compilers=_npu_compilers(),
        usable_cores=usable_cores(),
        environment=environment(),
    )


def _npu_compilers() -> Measurement[Text]:
    """They are looked for, not tried: a chip's compiler needs a network of its own."""
    try:
        return find(None).named
    except TargetUnavailable as error:
        return NotMeasured(reason=str(error))


def try_target(name: str) -> TargetJson:
    """Convert a small network and execute it, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            ended = subprocess.run(
                child.command("rexnet_export.apps.export.doctor.attempt", name, folder),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=folder,
                timeout=PATIENCE_S,
                check=False,
            )
        except subprocess.TimeoutExpired as late:
            return _result(late.output or b"", f"it did not end within {PATIENCE_S:g} s")
    how = Signals(-ended.returncode).name if ended.returncode < 0 else f"code {ended.returncode}"
    return _result(ended.stdout, f"its process crashed ({how})")


def _result(said: bytes, otherwise: str) -> TargetJson:
    """What the child said; a step that it does not speak of failed, for a reason of its own or `otherwise`."""
    steps: dict[str, Any] = {}
    for line in said.splitlines():
        steps |= json.loads(line)
    undone = NotMeasured(reason=steps.get("failed", otherwise))
    return TargetJson(
        converted_s=steps.get("converted_s", undone),
        executed_by=steps.get("executed_by", undone),
        timed=steps.get("timed", undone),
    )
