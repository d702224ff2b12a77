"""`rexnet-bench gpu`: what is asked for, measured form by form."""

from __future__ import annotations

import argparse
import re

from rexnet_export.apps.bench.gpu.gpu_json import GpuJson
from rexnet_export.apps.bench.gpu.gpu_tables import accuracy_table, lines, speed_table
from rexnet_export.apps.bench.gpu.measure_forms import Asked, measure_forms
from rexnet_export.apps.bench.gpu.subject import subject
from rexnet_export.apps.shared.terminal import Terminal
from rexnet_export.apps.shared.text import counted, done
from rexnet_export.pipeline.core.errors import InvalidMeasurement, UsageError
from rexnet_export.pipeline.core.meant import listed, one_of
from rexnet_export.targets.gpu.forms import FORMS, Machine, this_machine

GPU_BATCHES, CPU_BATCHES = (1, 8, 32, 128, 256, 512, 1024), (1, 8)
MOST_BATCH, MOST_SECONDS = 2**16, 3600.0


def run(options: argparse.Namespace, terminal: Terminal) -> int:
    """Measure and print; 4 where nothing could be measured."""
    machine = this_machine()
    asked = _asked(options, machine)
    if not machine.is_gpu:
        terminal.note("CPU: torch sees no CUDA device; no figure here is a GPU's")
    found = measure_forms(subject(options, terminal), asked, machine, terminal)
    if options.json:
        terminal.json(found.to_json())
    elif not options.quiet:
        if found.measured:
            terminal.out.print(speed_table(found))
            terminal.out.print(accuracy_table(found))
        terminal.out.print("\n".join(lines(found)), soft_wrap=True)
    if not found.measured:
        raise InvalidMeasurement("no form could be measured here; each says why above, and in --json")
    terminal.note(done(*_ending(found)))
    return 0


def _asked(options: argparse.Namespace, machine: Machine) -> Asked:
    if options.images < 1:
        raise UsageError(f"--images {options.images}: name 1 or more")
    if not 0 < options.seconds <= MOST_SECONDS:
        raise UsageError(f"--seconds {options.seconds:g} is not a number above 0, at most {MOST_SECONDS:g}")
    usual = GPU_BATCHES if machine.is_gpu else CPU_BATCHES
    return Asked(
        batches=usual if options.batches is None else _batches(options.batches),
        forms=tuple(FORMS) if options.forms is None else _forms(options.forms),
        seconds=options.seconds,
    )


def _batches(text: str) -> tuple[int, ...]:
    """Sizes in ascending order, each once."""
    words = listed(text, "--batches", (), "1,8,32")
    if wrong := [word for word in words if not (re.fullmatch("[0-9]{1,5}", word) and 1 <= int(word) <= MOST_BATCH)]:
        raise UsageError(f"--batches {text}: {wrong[0]!r} is not a number from 1 to {MOST_BATCH}")
    return tuple(sorted(set(map(int, words))))


def _forms(text: str) -> tuple[str, ...]:
    words = listed(text, "--forms", FORMS, ",".join(list(FORMS)[:2]))
    if unknown := [name for name in words if name not in FORMS]:
        raise UsageError(f"--forms {text}: there is no {unknown[0]!r}; {one_of(unknown[0], FORMS)}")
    return tuple(name for name in FORMS if name in words)


def _ending(found: GpuJson) -> tuple[str, str]:
    name, cell = max(found.cells(), key=lambda each: each[1].timing.images_per_s)
    what = f"{counted(found.measured, 'cell')} of {counted(len(found.forms), 'form')} on {found.device.name}"
    best = f"the fastest is {name} at batch {cell.timing.batch}, {cell.timing.images_per_s:,.0f} images/s"
    unsteady = sum(not cell.timing.steady for _, cell in found.cells())
    changed = f"{counted(unsteady, 'cell')} changed speed while timed: measure again on a quiet machine"
    return f"{what}; {best}", changed if unsteady else ""
