"""TFLite: full-integer, float16 and float32 files, and their execution by LiteRT."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
from numpy.typing import NDArray

from rexnet_export.pipeline.artifact.inspection import Inspection
from rexnet_export.pipeline.artifact.self_test import carried
from rexnet_export.pipeline.artifact.target import OutputSession, Source, described, require_int8
from rexnet_export.pipeline.core.errors import ConversionError, first_line
from rexnet_export.pipeline.core.extras import require_module
from rexnet_export.pipeline.core.images import require_images
from rexnet_export.pipeline.core.outputs import answer, are_outputs
from rexnet_export.pipeline.core.records import Artifact, Precision, stored_file
from rexnet_export.quantization.table.table import QuantTable
from rexnet_export.targets.tflite.compiled import portable
from rexnet_export.targets.tflite.flatbuffer import Graph, read_graph
from rexnet_export.targets.tflite.inspect import count_arithmetic, stored_parameters, stored_qparams
from rexnet_export.targets.tflite.match_onnx import Lowered, lower
from rexnet_export.targets.tflite.metadata import by_position, entries, read_description, require_labels, with_labels
from rexnet_export.targets.tflite.stamp import IMAGE, attach_ends, halve, stamp
from rexnet_export.targets.tflite.structure import structure
from rexnet_export.targets.tflite.trace import Traced, traced

if TYPE_CHECKING:
    from ai_edge_litert.interpreter import Interpreter

WORKERS = 2  # interpreters that run images side by side; each on one thread, as on a phone


class Tflite:
    """INT8 (but for what the table leaves in float32), float16 weights with float32 arithmetic, or float32."""

    name = "tflite"
    precisions: tuple[Precision, ...] = ("int8", "fp16", "fp32")
    suffixes = (".tflite",)

    def require(self) -> None:
        """onnx2tf lowers the graph; ai-edge-litert has the file format and the runtime."""
        for module in ("onnx2tf", "ai_edge_litert"):
            require_module(module, "TFLite")

    def convert(self, source: Source, folder: Path, stem: str) -> Artifact:
        """Write `stem.tflite`, labels and metadata inside; INT8 is read back and compared with the table."""
        self.require()
        if source.precision == "int8" and source.table is None:
            raise ConversionError(f"{source.card.name}: INT8 needs a quantization table; calibrate first")
        lowered = lower(onnx.load(source.float_onnx.path))
        if source.precision == "int8" and source.table is not None:
            stamp(lowered, source.table)
        elif source.precision == "fp16":
            halve(lowered)
        attach_ends(lowered, by_position(source.outputs))
        path = folder / f"{stem}.tflite"
        _write(lowered.graph, path, source)
        stored = _read(path)
        if source.precision == "int8" and source.table is not None:
            _compare(stored, lowered, source.table)
        proof = carried(source, lambda: open_session(path), stored_qparams(stored), stored_parameters(stored))
        _write(lowered.graph, path, source, proof)
        artifact = Artifact(target=self.name, precision=source.precision, file=stored_file(path))
        require_int8(artifact, count_arithmetic(stored), source.float_tensors)
        return artifact

    def open(self, artifact: Artifact, *, threads: int | None = None) -> OutputSession:
        """Load the file into LiteRT with its XNNPACK kernels."""
        require_module("ai_edge_litert", "TFLite")
        return open_session(artifact.file.path, threads=threads or 1)

    def preload(self) -> None:
        """For `targets.isolation`: what reading and running a file imports."""
        from ai_edge_litert import interpreter, schema_py_generated  # noqa: F401, PLC0415

    def inspect(self, artifact: Artifact) -> Inspection:
        """The file's one graph, its labels and its metadata."""
        graph = cache(lambda: _read(artifact.file.path))
        return Inspection(
            metadata=lambda: read_description(graph()),
            declared=lambda: [graph().name(int(index)) for index in graph().subgraph.outputs],
            coverage=lambda: count_arithmetic(portable(graph())),
            structure=lambda: structure(graph()),
            qparams=lambda: stored_qparams(portable(graph())),
            parameters=lambda: stored_parameters(portable(graph())),
        )


@dataclass(frozen=True, kw_only=True)
class TfliteSession:
    """One model in several interpreters; results keep the order of the images."""

    interpreters: tuple[Interpreter, ...]
    executed_by: str
    path: Path
    shape: tuple[int, int, int]
    timed: bool = True

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 [N, S, S, 3] RGB -> float32 logits [N, classes]."""
        return answer(self.outputs(images))

    def outputs(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """uint8 [N, S, S, 3] RGB -> the declared outputs, float32 [N, classes] or [N, C, H, W]."""
        require_images(images, self.shape)
        if len(images) == 1:
            return _declared(self.interpreters[0], images)
        parts = np.array_split(images, min(len(images), len(self.interpreters)))
        with ThreadPoolExecutor(len(parts)) as workers:
            found = list(workers.map(_declared, self.interpreters, parts))
        return {name: np.concatenate([part[name] for part in found]) for name in found[0]}

    def trace(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Every activation as real numbers, [N, C, H, W] or [N, C], by ONNX name, in the file's order."""
        require_images(images, self.shape)
        copy, interpreter = self._traced
        parts = [copy.real(_outputs(interpreter, pixels)) for pixels in images]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    @cached_property
    def _traced(self) -> tuple[Traced, Interpreter]:
        copy = traced(_read(self.path))
        with _native_stderr_hidden():
            return copy, _interpreter(copy.content, self.path.name)


def open_session(path: Path, *, threads: int = 1) -> TfliteSession:
    """Open a file of ours, whole and with the contract's input and output."""
    graph = portable(_read(path))  # LiteRT itself trusts a file's offsets
    image = [(graph.name(i), graph.type(i)) for i in graph.subgraph.inputs]
    ends = {graph.name(i): graph.type(i) for i in graph.subgraph.outputs}
    if image != [(IMAGE, "UINT8")] or set(ends.values()) != {"FLOAT32"} or not are_outputs(ends):
        raise ConversionError(
            f"{path.name} does not take uint8 {IMAGE} and give logits, probabilities or features; it was not exported "
            "here"
        )
    _, height, width, channels = graph.shape(int(graph.subgraph.inputs[0]))
    with _native_stderr_hidden():
        interpreters = tuple(_interpreter(str(path), path.name, threads) for _ in range(WORKERS))
    return TfliteSession(
        interpreters=interpreters,
        executed_by=f"LiteRT {version('ai-edge-litert')}",
        path=path,
        shape=(height, width, channels),
    )


def _read(path: Path) -> Graph:
    graph = read_graph(path)
    require_labels(path, read_description(graph))
    return graph


def _interpreter(model: str | bytes, name: str, threads: int = 1) -> Interpreter:
    """Load a file by its path, or a model by its content."""
    from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415

    place = {"model_path": model} if isinstance(model, str) else {"model_content": model}
    try:
        interpreter = Interpreter(**place, num_threads=threads)
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise ConversionError(f"LiteRT cannot open {name}: {first_line(error)}") from error
    return interpreter


def _declared(interpreter: Interpreter, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """Outputs of several images, one after another, channels first as in ONNX."""
    found = [_outputs(interpreter, pixels) for pixels in images]
    joined = {name: np.concatenate([each[name] for each in found]).astype(np.float32) for name in found[0]}
    return {name: values if values.ndim == 2 else values.transpose(0, 3, 1, 2) for name, values in joined.items()}


def _outputs(interpreter: Interpreter, pixels: NDArray[np.uint8]) -> dict[str, NDArray[np.generic]]:
    """Run one image; what the graph puts out, by tensor name."""
    (image,) = interpreter.get_input_details()
    interpreter.set_tensor(image["index"], pixels[None])
    try:
        interpreter.invoke()
    except RuntimeError as error:
        raise ConversionError(f"LiteRT stopped in the model: {first_line(error)}") from error
    return {output["name"]: interpreter.get_tensor(output["index"]) for output in interpreter.get_output_details()}


@contextmanager
def _native_stderr_hidden() -> Iterator[None]:
    """LiteRT announces its delegate on file descriptor 2, past Python's `sys.stderr`; failures are exceptions."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _write(graph: Graph, path: Path, source: Source, proof: Mapping[str, str] | None = None) -> None:
    graph.set_metadata(entries(source.card, described(source) | dict(proof or {}), by_position(source.outputs)))
    path.write_bytes(with_labels(graph.written(), source.card))


def _compare(graph: Graph, lowered: Lowered, table: QuantTable) -> None:
    """Everything the table says about this network, scales to integers, is in the file, and nothing else is."""
    table.require_stored(stored_qparams(graph))
    indices = {graph.name(index): index for index in graph.indices()}
    for name, parameter in lowered.parameters.items():
        is_float = table.tensors[name].decision == "float"
        values = parameter.values if is_float else table.integers(name, parameter.values)
        if not np.array_equal(graph.values(indices[name]), values.transpose(parameter.permutation)):
            raise ConversionError(f"{name}: the file's numbers are not the table's; report this model")
