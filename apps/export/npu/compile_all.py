"""A file compiled for chips, each result read back, and what could be compiled published in a folder of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from rexnet_export.apps.export.npu.ai_pack import write_ai_pack
from rexnet_export.apps.export.npu.chips import Chip
from rexnet_export.apps.export.npu.compile import Made, compile_for
from rexnet_export.apps.export.npu.environment import Environment
from rexnet_export.apps.export.npu.handed_over import compared
from rexnet_export.apps.export.npu.npu_json import COMPILED, ChipJson, NpuJson, ParametersJson, SourceJson
from rexnet_export.apps.shared.text import counted, grouped
from rexnet_export.pipeline.artifact.export_folder import require_vouched
from rexnet_export.pipeline.core.errors import ConversionError, ExportError, TargetUnavailable
from rexnet_export.pipeline.core.files import NPU_FILE, writing
from rexnet_export.pipeline.core.json import to_text
from rexnet_export.pipeline.core.progress import Progress
from rexnet_export.pipeline.core.records import Measurement, NotMeasured, file_sha256, stored_file
from rexnet_export.pipeline.export.publish import publish, staging
from rexnet_export.pipeline.machine.environment import environment as this_machine
from rexnet_export.targets.isolation.isolated_file import IsolatedFile
from rexnet_export.targets.tflite.compiled import compiled_for, portable, require_same_ends, with_its_labels
from rexnet_export.targets.tflite.flatbuffer import Graph, read_graph

NO_CHIP = NotMeasured(reason="there is no such NPU here: run it on the phone")
NO_GRAPH = NotMeasured(reason="this vendor's plugin does not show the graph that it hands over")


def compile_all(
    path: Path, chips: Sequence[Chip], environment: Environment, output: Path, progress: Progress
) -> tuple[NpuJson | None, dict[Chip, ExportError]]:
    """What of the file could be compiled, published in `output` unless it is nothing, and why the rest could not."""
    require_vouched(path)
    with IsolatedFile(path) as file:
        operators = dict(file.inspect().structure.operators)
    graph = portable(read_graph(path))
    with staging(output, progress, COMPILED) as folder:
        made, failed = _compiled(chips, path, graph, environment, folder, progress)
        if not made:
            return None, failed
        pack = write_ai_pack(folder, path.stem, path, {chip: folder / one.file for chip, one in made.items()})
        source = stored_file(path)
        record = NpuJson(
            source=SourceJson(file=path.name, sha256=source.sha256, bytes=source.bytes, operators=operators),
            chips=tuple(made.values()),
            not_compiled={chip.named: _reason(chip, error) for chip, error in failed.items()},
            ai_pack=pack.name if pack else NotMeasured(reason="none of the chips is of a phone"),
            packages=environment.versions(),
            environment=this_machine(),
        )
        with writing(output):
            (folder / NPU_FILE).write_text(to_text(record.to_json()), encoding="utf-8")
        publish(folder, output, progress, COMPILED)
    return record, failed


def _compiled(
    chips: Sequence[Chip], path: Path, graph: Graph, environment: Environment, folder: Path, progress: Progress
) -> tuple[dict[Chip, ChipJson], dict[Chip, ExportError]]:
    """Every chip's file in `folder`, and why others have none."""
    made: dict[Chip, ChipJson] = {}
    failed: dict[Chip, ExportError] = {}
    with progress.stage("compiling", len(chips), "chips") as bar, TemporaryDirectory() as work:
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


def shortcoming(record: NpuJson | None, failed: Mapping[Chip, ExportError], output: Path) -> ExportError | None:
    """What is not as it was asked for, each reason once with its files or chips; None where nothing is.

    It is of the kind of the first chip's error that has no file, where there is one.
    """
    made = record.chips if record else ()
    wrong = list(grouped((str(output / one.file), _apart(one)) for one in made if not one.whole))
    if failed:
        why = grouped((chip.named, _reason(chip, error)) for chip, error in failed.items())
        wrong.append(f"{counted(len(failed), 'chip')} of {len(made) + len(failed)} not compiled: {'; '.join(why)}")
    kind = type(next(iter(failed.values()), ConversionError()))
    return kind("; ".join(wrong)) if wrong else None


def _reason(chip: Chip, error: ExportError) -> str:
    return str(error).removeprefix(f"{chip.named}: ")


def _apart(one: ChipJson) -> str:
    kinds = ", ".join(f"{count} {kind}" for kind, count in one.fallback.items()) or "none"
    return (
        f"not whole on the NPU: {one.operators_on_npu} of {one.operators} operators in "
        f"{counted(one.partitions, 'partition')}; left to the processor: {kinds}"
    )
