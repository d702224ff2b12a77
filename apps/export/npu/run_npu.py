"""What `rexnet-export npu` does, and prints of it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rexnet_export.apps.export.npu.chips import Chip
from rexnet_export.apps.export.npu.compile_all import compile_all, shortcoming
from rexnet_export.apps.export.npu.environment import Environment, fetch, find
from rexnet_export.apps.export.npu.npu_json import ChipJson, NpuJson
from rexnet_export.apps.shared.terminal import Terminal
from rexnet_export.apps.shared.terminal_table import Column, FittedTable
from rexnet_export.apps.shared.text import counted, grouped, shown, unmeasured_lines
from rexnet_export.apps.shared.text import done as done_line
from rexnet_export.pipeline.core.errors import ExportError
from rexnet_export.pipeline.core.files import compiled_folder
from rexnet_export.pipeline.core.records import Measurement, NotMeasured


def fetch_only(_: argparse.Namespace, terminal: Terminal) -> None:
    """Install the compilers."""
    environment = fetch(terminal)
    terminal.note(done_line(f"{environment.named} in {environment.packages}"))


def run(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Compile the file for every chip, publish what could be, and say what could not."""
    environment = fetch(terminal) if arguments.fetch else find(arguments.environment)
    record, failed = compile_all(arguments.file, arguments.chosen, environment, arguments.output, terminal)
    if record is not None and arguments.json:
        terminal.json(record.to_json())
    elif record is not None and not arguments.quiet:
        _show(record, terminal)
    return _told(record, failed, arguments.output, terminal)


def run_beside(path: Path, chips: Sequence[Chip], environment: Environment, terminal: Terminal, *, table: bool) -> int:
    """The same for the `.tflite` of an export that has just been published, in a folder beside it."""
    output = path.with_name(compiled_folder(path.name))
    record, failed = compile_all(path, chips, environment, output, terminal)
    if record is not None and table:
        _show(record, terminal)
    return _told(record, failed, output, terminal)


def _show(record: NpuJson, terminal: Terminal) -> None:
    terminal.out.print(_table(record))
    terminal.out.print("\n".join(_lines(record)), soft_wrap=True, markup=False)


def _table(record: NpuJson) -> FittedTable:
    columns = (
        Column(title="chip", left=True),
        Column(title="operators on the NPU"),
        Column(title="partitions"),
        Column(title="scales", spare=3),
        Column(title="weights", spare=4),
        Column(title="MB", spare=2),
        Column(title="seconds", spare=1),
    )
    title = f"{record.source.file}: {record.source.bytes / 1e6:.2f} MB, portable"
    return FittedTable(title, columns, [_cells(one) for one in record.chips])


def _cells(one: ChipJson) -> list[str]:
    return [
        f"{one.vendor} {one.chip}",
        f"{one.operators_on_npu} of {one.operators}",
        str(one.partitions),
        shown(one.parameters, lambda same: f"{same.activations + same.weights}"),
        shown(_integers(one), str),
        f"{one.bytes / 1e6:.2f}",
        f"{one.seconds:.1f}",
    ]


def _lines(record: NpuJson) -> Iterator[str]:
    yield "scales, weights and biases: how many that the compiler was given are those of the portable file"
    yield "not executed: a compiled file runs on its chip alone, and its answers there are not measured"
    yield from (f"not compiled: {line}" for line in grouped(record.not_compiled.items()))
    scales = [(one.chip, one.parameters) for one in record.chips]
    yield from (f"not compared: {line}" for line in unmeasured_lines(scales))
    integers = ((one.chip, _integers(one)) for one in record.chips if not isinstance(one.parameters, NotMeasured))
    yield from (f"weights not compared: {line}" for line in unmeasured_lines(integers))


def _integers(one: ChipJson) -> Measurement[int]:
    return one.parameters if isinstance(one.parameters, NotMeasured) else one.parameters.integers


def _told(record: NpuJson | None, failed: Mapping[Chip, ExportError], output: Path, terminal: Terminal) -> int:
    """One line on what is not as it was asked for, also where nothing else is said, or on what is; the exit code."""
    wrong = shortcoming(record, failed, output)
    if wrong is not None:
        terminal.fail(str(wrong))
        return wrong.exit_code
    assert record is not None, "nothing failed"
    terminal.note(done_line(f"{counted(len(record.chips), 'file')} in {output}/, whole on the NPU, not executed"))
    return 0
