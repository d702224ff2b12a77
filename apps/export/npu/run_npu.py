"""What `rexnet-export npu` does, and prints of it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from rexnet_export.apps.export.npu.ai_pack import write_ai_pack
from rexnet_export.apps.export.npu.chips import Chip
from rexnet_export.apps.export.npu.compile import Made, compile_for
from rexnet_export.apps.export.npu.environment import Environment, fetch, find
from rexnet_export.apps.export.npu.handed_over import compared
from rexnet_export.apps.export.npu.npu_json import COMPILED, ChipJson, NpuJson, ParametersJson, SourceJson
from rexnet_export.apps.shared.terminal import Terminal
from rexnet_export.apps.shared.terminal_table import Column, FittedTable
from rexnet_export.apps.shared.text import counted, grouped, shown, unmeasured_lines
from rexnet_export.apps.shared.text import done as done_line
from rexnet_export.pipeline.artifact.export_folder import require_vouched
from rexnet_export.pipeline.core.errors import ConversionError, ExportError, TargetUnavailable
from rexnet_export.pipeline.core.files import NPU_FILE, compiled_folder, require_no_export, writing
from rexnet_export.pipeline.core.json import to_text
from rexnet_export.pipeline.core.records import Measurement, NotMeasured, file_sha256, stored_file
from rexnet_export.pipeline.export.publish import publish, staging
from rexnet_export.pipeline.machine.environment import environment as this_machine
from rexnet_export.targets.isolation.isolated_file import IsolatedFile
from rexnet_export.targets.tflite.compiled import compiled_for, portable, require_same_ends, with_its_labels
from rexnet_export.targets.tflite.flatbuffer import Graph, read_graph

FELL_APART = ConversionError.exit_code
NO_CHIP = NotMeasured(reason="there is no such NPU here: run it on the phone")
NO_GRAPH = NotMeasured(reason="this vendor's plugin does not show the graph that it hands over")


def fetch_only(_: argparse.Namespace, terminal: Terminal) -> None:
    """Install the compilers."""
    environment = fetch(terminal)
    terminal.note(done_line(f"{environment.named} in {environment.packages}"))


def run(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Compile the file for every chip, publish what could be, and say what could not."""
    environment = fetch(terminal) if arguments.fetch else find(arguments.environment)
    record, failed = _published(arguments.file, arguments.chosen, environment, arguments.output, terminal)
    if arguments.json:
        terminal.json(record.to_json())
    elif not arguments.quiet:
        _show(record, terminal)
    return _told(record, failed, arguments.output, terminal)


def run_beside(path: Path, chips: Sequence[Chip], environment: Environment, terminal: Terminal, *, table: bool) -> int:
    """The same for the `.tflite` of an export that has just been published, in a folder beside it."""
    output = path.with_name(compiled_folder(path.name))
    require_no_export(output)
    record, failed = _published(path, chips, environment, output, terminal)
    if table:
        _show(record, terminal)
    return _told(record, failed, output, terminal)


def _published(
    path: Path, chips: Sequence[Chip], environment: Environment, output: Path, terminal: Terminal
) -> tuple[NpuJson, dict[Chip, ExportError]]:
    """What of the file could be compiled, in `output`, and why the rest could not; an error where nothing could."""
    require_vouched(path)
    with IsolatedFile(path) as file:
        operators = dict(file.inspect().structure.operators)
    graph = portable(read_graph(path))
    with staging(output, terminal, COMPILED) as folder:
        made, failed = _compiled(chips, path, graph, environment, folder, terminal)
        if not made:
            raise next(iter(failed.values()))
        pack = write_ai_pack(folder, path.stem, path, {chip: folder / one.file for chip, one in made.items()})
        source = stored_file(path)
        record = NpuJson(
            source=SourceJson(file=path.name, sha256=source.sha256, bytes=source.bytes, operators=operators),
            chips=tuple(made.values()),
            not_compiled={chip.named: str(error).removeprefix(f"{chip.named}: ") for chip, error in failed.items()},
            ai_pack=pack.name if pack else NotMeasured(reason="none of the chips is of a phone"),
            packages=environment.versions(),
            environment=this_machine(),
        )
        with writing(output):
            (folder / NPU_FILE).write_text(to_text(record.to_json()), encoding="utf-8")
        publish(folder, output, terminal, COMPILED)
    return record, failed


def _compiled(
    chips: Sequence[Chip], path: Path, graph: Graph, environment: Environment, folder: Path, terminal: Terminal
) -> tuple[dict[Chip, ChipJson], dict[Chip, ExportError]]:
    """Every chip's file in `folder`, and why others have none."""
    made: dict[Chip, ChipJson] = {}
    failed: dict[Chip, ExportError] = {}
    with terminal.stage("compiling", len(chips), "chips") as bar, TemporaryDirectory() as work:
        for chip in chips:
            try:
                made[chip] = _one(chip, path, graph, environment, folder, Path(work))
            except (ConversionError, TargetUnavailable) as error:
                failed[chip] = type(error)(f"{chip.named}: {error}")
            bar.advance(1, chip.name)
    return made, failed


def _one(chip: Chip, path: Path, graph: Graph, environment: Environment, folder: Path, work: Path) -> ChipJson:
    """Compile for one chip, and read back what that gave."""
    compiled = compile_for(chip, path.resolve(), environment, work)
    result = read_graph(compiled.path)
    found = compiled_for(result)
    if found is None or found.named.lower() != chip.named.lower() or not found.partitions:
        raise ConversionError("nothing in the compiled file is for that chip")
    require_same_ends(graph, result)
    operators, left = len(graph.operators), sum(found.left.values())
    whole = not left and found.partitions == 1
    parameters = _parameters(compiled, chip, graph, whole=whole)
    name = f"{path.stem}_{chip.vendor.group(chip.name)}.tflite"
    with writing(folder):  # last: what is in the folder is published
        (folder / name).write_bytes(with_its_labels(result, compiled.path.read_bytes()))
    return ChipJson(
        vendor=chip.vendor.name,
        chip=chip.name,
        file=name,
        sha256=file_sha256(folder / name),
        bytes=(folder / name).stat().st_size,
        whole=whole,
        operators=operators,
        operators_on_npu=operators - left,
        partitions=found.partitions,
        fallback=dict(found.left),
        parameters=parameters,
        executed_by=NO_CHIP,
        seconds=compiled.seconds,
        sdk=compiled.sdk,
    )


def _parameters(compiled: Made, chip: Chip, graph: Graph, *, whole: bool) -> Measurement[ParametersJson]:
    if chip.vendor.name != "Qualcomm":
        return NO_GRAPH
    if not whole:
        return NotMeasured(reason="the plugin numbers the tensors of each partition anew")
    return compared(compiled.handed_over, compiled.recorded, graph)


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


def _told(record: NpuJson, failed: Mapping[Chip, ExportError], output: Path, terminal: Terminal) -> int:
    """One line on what is not as it was asked for, also where nothing else is said, or on what is; the exit code."""
    wrong = list(grouped((str(output / one.file), _apart(one)) for one in record.chips if not one.whole))
    code = FELL_APART if wrong else 0
    if failed:
        first = next(iter(failed.values()))
        wrong.append(f"{counted(len(failed), 'chip')} of {len(record.chips) + len(failed)} not compiled: {first}")
        code = first.exit_code
    if wrong:
        terminal.fail("; ".join(wrong))
    else:
        terminal.note(done_line(f"{counted(len(record.chips), 'file')} in {output}/, whole on the NPU, not executed"))
    return code


def _apart(one: ChipJson) -> str:
    kinds = ", ".join(f"{count} {kind}" for kind, count in one.fallback.items()) or "none"
    return (
        f"not whole on the NPU: {one.operators_on_npu} of {one.operators} operators in "
        f"{counted(one.partitions, 'partition')}; left to the processor: {kinds}"
    )
