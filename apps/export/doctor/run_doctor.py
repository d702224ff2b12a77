"""What `rexnet-export doctor` does, and prints."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from importlib.util import find_spec

from rexnet_export.apps.export.doctor.doctor_json import DoctorJson, TargetJson
from rexnet_export.apps.export.doctor.examine import examine
from rexnet_export.apps.shared.terminal import Terminal
from rexnet_export.apps.shared.terminal_table import Column, FittedTable
from rexnet_export.apps.shared.text import grouped, shown
from rexnet_export.pipeline.core.errors import TargetUnavailable
from rexnet_export.pipeline.core.records import NotMeasured
from rexnet_export.targets import TARGETS


def run(arguments: argparse.Namespace, terminal: Terminal) -> None:
    """Try the targets, say what was found, and raise what does not work."""
    found = examine([name for name in TARGETS if name in (arguments.target or _present())], terminal)
    if arguments.json:
        terminal.json(found.to_json())
    elif not arguments.quiet:
        terminal.out.print(_table(found))
        terminal.out.print("\n".join(_lines(found)), soft_wrap=True)
    if not found.works:
        raise TargetUnavailable("; ".join(_failures(found)))


def _present() -> list[str]:
    """The usual targets, and of the others those whose package is installed: that one is not is no fault."""
    return [name for name, known in TARGETS.listings.items() if not known.needs or find_spec(known.needs) is not None]


def _table(found: DoctorJson) -> FittedTable:
    columns = [Column(title=title, left=True) for title in ("target", "converted", "executed by", "timed")]
    return FittedTable("a small network, in float", columns, [_cells(*each) for each in found.targets.items()])


def _cells(name: str, target: TargetJson) -> list[str]:
    seconds = shown(target.converted_s, lambda value: f"in {value:.1f} s")
    return [name, seconds, shown(target.executed_by, str), shown(target.timed, _timed)]


def _timed(own: bool) -> str:  # noqa: FBT001 - a measurement
    return "yes" if own else "no, it is a reference"


def _lines(found: DoctorJson) -> Iterator[str]:
    """The machine, its tools, what is optional and missing, and the verdict."""
    machine = found.environment
    yield f"{machine['processor']}, {found.usable_cores} of {machine['cores']} cores usable, Python {machine['python']}"
    packages = machine["packages"].items()
    yield ", ".join(f"{name} {version}" for name, version in packages if version is not None)
    for extra in found.extras.values():
        if extra.missing:
            yield f"not installed: {', '.join(extra.missing)} ({extra.purpose}); run: {extra.command}"
    npu = found.npu_compilers
    yield npu.reason if isinstance(npu, NotMeasured) else f"compiling for NPUs: {npu}"
    yield from found.plugins_that_fail
    if found.works:
        yield f"works: {', '.join(found.targets)} can be converted and executed here"


def _failures(found: DoctorJson) -> Iterator[str]:
    yield from grouped((name, _failure(target)) for name, target in found.targets.items() if not target.works)


def _failure(target: TargetJson) -> str:
    assert isinstance(target.executed_by, NotMeasured)
    step = "converted" if isinstance(target.converted_s, NotMeasured) else "executed"
    return f"cannot be {step}: {target.executed_by.reason}"
