"""OpenVINO: INT8, float16 and float32 IRs, and their execution on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from rexnet_export.pipeline.artifact.inspection import Inspection
from rexnet_export.pipeline.artifact.self_test import carried
from rexnet_export.pipeline.artifact.target import OutputSession, Source, described, require_int8
from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.extras import require_module
from rexnet_export.pipeline.core.records import Artifact, Precision, stored_file
from rexnet_export.quantization.table.table import QuantTable
from rexnet_export.targets.openvino.grids import inside_silu
from rexnet_export.targets.openvino.inspect import count_arithmetic, stored_parameters, stored_qparams, structure
from rexnet_export.targets.openvino.ir import MODEL, SECTION, WEIGHTS, Graph, read_ir
from rexnet_export.targets.openvino.lower import Node, lower
from rexnet_export.targets.openvino.session import open_session
from rexnet_export.targets.openvino.toolchain import runtime


class Openvino:
    """INT8 (but for what the table leaves in float32), float16 weights with float32 arithmetic, or float32."""

    name = "openvino"
    precisions: tuple[Precision, ...] = ("int8", "fp16", "fp32")
    suffixes = (".openvino",)

    def require(self) -> None:
        """OpenVINO writes the file and runs it; reading one needs nothing."""
        require_module("openvino", "OpenVINO")

    def convert(self, source: Source, folder: Path, stem: str) -> Artifact:
        """Write `stem.openvino`, a folder with `model.xml` and `model.bin`; INT8 is read back and compared."""
        self.require()
        if source.precision == "int8" and source.table is None:
            raise ConversionError(f"{source.card.name}: INT8 needs a quantization table; calibrate first")
        table = source.table if source.precision == "int8" else None
        graph = onnx.load(source.float_onnx.path)
        model = lower(graph, source.outputs, table, half=source.precision == "fp16")
        path = folder / f"{stem}{self.suffixes[0]}"
        path.mkdir()
        stored = _write(model, path, source)
        if table is not None:
            _compare(stored, graph, table)
        proof = carried(source, lambda: open_session(path), stored_qparams(stored), stored_parameters(stored))
        stored = _write(model, path, source, proof)
        artifact = Artifact(target=self.name, precision=source.precision, file=stored_file(path))
        if table is not None:
            require_int8(artifact, count_arithmetic(stored), source.float_tensors)
            open_session(path).require_integers()
        return artifact

    def open(self, artifact: Artifact, *, threads: int | None = None) -> OutputSession:
        """Load the folder into OpenVINO's CPU plugin."""
        return open_session(artifact.file.path, threads=threads or 1)

    def inspect(self, artifact: Artifact) -> Inspection:
        """The folder's layers, numbers and `rt_info`, read without OpenVINO."""

        def read[T](reader: Callable[[Graph], T]) -> Callable[[], T]:
            return lambda: understood(artifact.file.path, reader)

        return Inspection(
            metadata=read(lambda graph: dict(graph.metadata)),
            declared=read(lambda graph: [layer.inputs[0] for layer in graph.kinds("Result")]),
            coverage=read(count_arithmetic),
            structure=read(structure),
            qparams=read(stored_qparams),
            inside=read(inside_silu),
            parameters=read(stored_parameters),
        )


def understood[T](path: Path, reader: Callable[[Graph], T]) -> T:
    """What a reader makes of a folder; what it cannot understand is a `ConversionError`."""
    graph = read_ir(path)
    try:
        return reader(graph)
    except (KeyError, IndexError, TypeError, ValueError, RecursionError) as error:
        raise ConversionError(
            f"{path.name} is not built as our files are ({error}); it was not exported here"
        ) from error
    except ConversionError as error:
        raise ConversionError(f"{path.name}: {error}; export the model again") from error


def _write(model: Node, path: Path, source: Source, proof: Mapping[str, str] | None = None) -> Graph:
    """The file with what it says of itself, and what is read back of it."""
    for key, text in (described(source) | dict(proof or {})).items():
        model.set_rt_info(text, [SECTION, key])
    runtime().serialize(model, path / MODEL, path / WEIGHTS)
    return read_ir(path)


def _compare(graph: Graph, model: onnx.ModelProto, table: QuantTable) -> None:
    """Everything the table says about this network, scales to integers, is in the file, and nothing else is.

    What is inside a SiLU has no grid: the rule that left it out and the one that reads must find the same.
    """
    table.require_stored(stored_qparams(graph), inside=inside_silu(graph))
    real = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for name, values in stored_parameters(graph).items():
        entry = table.tensors.get(name)
        numbers = real[name] if entry is None or entry.params is None else table.integers(name, real[name])
        if not np.array_equal(values, numbers):
            raise ConversionError(f"{name}: the file's numbers are not the table's; report this model")
