"""ONNX Runtime mobile: `.ort` files for ARM and x86, the `.onnx` files they come from, and their execution."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from rexnet_export.pipeline.errors import ConversionError, DataError, TargetUnavailable, first_line
from rexnet_export.pipeline.fingerprints import damaged
from rexnet_export.pipeline.records import Artifact, Coverage, Precision, StoredFile, stored_file
from rexnet_export.pipeline.selftest import carried
from rexnet_export.pipeline.structure import Structure
from rexnet_export.pipeline.target import Session, Source, answer, are_outputs, described, require_int8
from rexnet_export.quantization.qdq import insert_qdq
from rexnet_export.quantization.qparams import QuantParams
from rexnet_export.quantization.simulate import QUANTIZES_FLOAT_WEIGHTS
from rexnet_export.targets import ort_format
from rexnet_export.targets.ort_canonical import canonical
from rexnet_export.targets.ort_format import ALIGNMENT, IDENTIFIER, Graph, count, parameters, quantization
from rexnet_export.targets.ort_structure import structure
from rexnet_export.targets.ort_trace import OrtTracer, open_tracer

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, SessionOptions

type Format = Literal["ORT", "ONNX"]

X86 = "x86"
WORKERS = 2  # images run side by side; each on one thread, as on a phone's CPU provider with one core
IMAGES_AT_ONCE = 8
CPU = "CPUExecutionProvider"


class Ort:
    """INT8 or float32 in `.ort`; float16 is not offered, as the mobile CPU kernels would widen it to float32."""

    name = "ort"
    precisions: tuple[Precision, ...] = ("int8", "fp32")
    suffixes = (".ort", ".onnx")

    def require(self) -> None:
        """`.ort` files are written and run by ONNX Runtime."""
        if find_spec("onnxruntime") is None:
            raise TargetUnavailable("ONNX Runtime is not installed; run: pip install onnxruntime==1.26.0")

    def convert(self, source: Source, folder: Path, stem: str) -> Artifact:
        """Write `stem.ort` for ARM and the `x86` preset, the `.onnx` of each, and the ARM file's operator list.

        ARM takes INT8 activations; x86 has faster kernels for the same table in UINT8. In float32 the preset is the
        `.onnx`, which ONNX Runtime optimizes for the processor it meets.
        """
        self.require()
        if source.precision == "int8":
            return self._convert_int8(source, folder, stem)
        plain, mobile = _pair(onnx.load(source.float_onnx.path), source, folder, stem)
        return Artifact(
            target=self.name,
            precision="fp32",
            file=mobile,
            presets={X86: plain},
            companions=(_required_operators(mobile.path),),
        )

    def _convert_int8(self, source: Source, folder: Path, stem: str) -> Artifact:
        if source.qdq_onnx is None or source.table is None:
            raise ConversionError(f"{source.card.name}: INT8 needs a quantization table; calibrate first")
        unsigned = insert_qdq(onnx.load(source.float_onnx.path), source.table, "uint8")
        plain, mobile = _pair(onnx.load(source.qdq_onnx.path), source, folder, stem)
        plain_x86, x86 = _pair(unsigned, source, folder, f"{stem}-{X86}")
        return Artifact(
            target=self.name,
            precision="int8",
            file=mobile,
            presets={X86: x86},
            companions=(plain, plain_x86, _required_operators(mobile.path)),
        )

    def open(self, artifact: Artifact, *, threads: int | None = None) -> Session:
        """Load a `.ort` or `.onnx` file into ONNX Runtime's CPU provider."""
        self.require()
        return open_session(artifact.file.path, threads=threads or 1)

    def coverage(self, artifact: Artifact) -> Coverage:
        """Count arithmetic in the optimized graph; a `.onnx` is optimized first, as it is at run time."""
        return self._read(artifact, count)

    def structure(self, artifact: Artifact) -> Structure:
        """Counted from the optimized graph."""
        return self._read(artifact, structure)

    def read_qparams(self, artifact: Artifact) -> dict[str, QuantParams]:
        """Scales and zero points of the optimized graph, by ONNX tensor name."""
        return self._read(artifact, quantization)

    def altered(self, artifact: Artifact) -> list[str]:
        """Compared with the fingerprints the file carries."""
        return damaged(self.read_metadata(artifact), self.read_qparams(artifact), self.read_parameters(artifact))

    def read_parameters(self, artifact: Artifact) -> dict[str, NDArray[np.generic]]:
        """Weights and biases of the optimized graph, by ONNX tensor name."""
        return self._read(artifact, parameters)

    def read_metadata(self, artifact: Artifact) -> dict[str, str]:
        """The file's `metadata_props`."""
        self.require()
        return dict(open_session(artifact.file.path).session.get_modelmeta().custom_metadata_map)

    def _read[T](self, artifact: Artifact, reader: Callable[[Graph], T]) -> T:
        try:
            return reader(self._graph(artifact))
        except (KeyError, IndexError, ValueError) as error:
            name = artifact.file.path.name
            raise ConversionError(
                f"{name} computes what our files store ({error}); it was not exported here"
            ) from error

    def _graph(self, artifact: Artifact) -> Graph:
        self.require()
        path = artifact.file.path
        open_session(path)  # ONNX Runtime verifies a file's structure; the Python reader does not
        if path.suffix == ".ort":
            return _parsed(path)
        with tempfile.TemporaryDirectory() as folder:
            return _parsed(_optimized(path, Path(folder) / "optimized.ort").path)


@dataclass(frozen=True, kw_only=True)
class OrtSession:
    """A model in ONNX Runtime, `batch` images at once; results keep the order of the images."""

    session: InferenceSession
    executed_by: str
    timed: bool = True
    path: Path
    provider: str
    names: tuple[str, ...]
    size: int
    batch: int

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 [N, S, S, 3] RGB -> float32 logits [N, classes]."""
        return answer(self.outputs(images))

    def outputs(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """uint8 [N, S, S, 3] RGB -> the declared outputs, float32 [N, classes] or [N, C, H, W]."""
        self._check(images)
        parts = [images[start : start + self.batch] for start in range(0, len(images), self.batch)]
        if len(parts) == 1:
            return self._outputs(parts[0])
        with ThreadPoolExecutor(WORKERS) as workers:
            found = list(workers.map(self._outputs, parts))
        return {name: np.concatenate([part[name] for part in found]) for name in self.names}

    def trace(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Every tensor of the optimized graph as real numbers, [N, C, H, W] or [N, C], by ONNX name, in graph order.

        INT8 and every `.ort` give the logits of `run` bit for bit. A float `.onnx` runs in this processor's blocked
        layout, which has no tensors to compare: it is traced in the plain one, and the logits' last bits differ.
        """
        self._check(images)
        return self._tracer.trace(images) if self.provider == CPU else self.outputs(images)

    @cached_property
    def _tracer(self) -> OrtTracer:
        if self.path.suffix == ".ort":
            return open_tracer(_content(self.path), _options())
        with tempfile.TemporaryDirectory() as folder:
            return open_tracer(_optimized(self.path, Path(folder) / "optimized.ort").path.read_bytes(), _options())

    def _check(self, images: NDArray[np.uint8]) -> None:
        if images.dtype != np.uint8 or images.shape[1:] != (self.size, self.size, 3) or not len(images):
            raise DataError(
                f"the model takes uint8 images [n, {self.size}, {self.size}, 3], got {images.dtype} {[*images.shape]}"
            )

    def _outputs(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        try:
            found = self.session.run(list(self.names), {"image": np.ascontiguousarray(images)})
        except Exception as error:
            raise ConversionError(f"{self.executed_by} stopped in the model: {first_line(error)}") from error
        return dict(zip(self.names, found, strict=True))


def open_session(path: Path, provider: str = CPU, *, threads: int = 1) -> OrtSession:
    """Open a `.ort` or `.onnx` file of ours, whole and with the contract's input and output."""
    import onnxruntime  # noqa: PLC0415

    session = _session(_content(path), path.name, _options(threads), provider)
    shape = _image_shape(session, path.name)
    where = "" if provider == CPU else f" ({provider})"
    return OrtSession(
        session=session,
        executed_by=f"ONNX Runtime {onnxruntime.__version__}{where}",
        path=path,
        provider=provider,
        names=tuple(value.name for value in session.get_outputs()),
        size=int(shape[1]),
        batch=1 if shape[0] == 1 else IMAGES_AT_ONCE,
    )


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConversionError(f"cannot read {path}: {error.strerror}; export the model again") from error
    whole = content[4:8] == IDENTIFIER and len(content) % ALIGNMENT == 0 if path.suffix == ".ort" else bool(content)
    if not whole:
        raise ConversionError(f"{path} is no whole {path.suffix} file ({len(content)} bytes); export the model again")
    return content


def _session(content: bytes, name: str, options: SessionOptions, provider: str = CPU) -> InferenceSession:
    import onnxruntime  # noqa: PLC0415

    try:
        return onnxruntime.InferenceSession(
            content,
            options,
            providers=[provider],
            # x86 blocked layouts help only float convolutions and would tie a file to one processor.
            disabled_optimizers=[
                QUANTIZES_FLOAT_WEIGHTS,
                *(["NchwcTransformer"] if options.optimized_model_filepath else []),
            ],
            enable_fallback=0,  # the fallback tries once more and prints
        )
    except Exception as error:
        raise ConversionError(f"ONNX Runtime cannot open {name}: {first_line(error)}") from error


def _options(threads: int = 1) -> SessionOptions:
    import onnxruntime  # noqa: PLC0415

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 4
    # On x86 the optimizer would otherwise rewrite INT8 activations to UINT8 and leave convolutions in float.
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    return options


def _image_shape(session: InferenceSession, name: str) -> Sequence[int | str]:
    inputs, outputs = session.get_inputs(), session.get_outputs()
    image, ends = [(value.name, value.type) for value in inputs], {value.name: value.type for value in outputs}
    shape: Sequence[int | str] = inputs[0].shape if inputs else ()
    whole = len(shape) == 4 and isinstance(shape[1], int) and shape[2:] == [shape[1], 3]
    if (
        image != [("image", "tensor(uint8)")]
        or set(ends.values()) != {"tensor(float)"}
        or not (are_outputs(ends) and whole)
    ):
        raise ConversionError(
            f"{name} does not take `image` [n, S, S, 3] and give `logits` or features; it was not exported here"
        )
    return shape


def _pair(model: onnx.ModelProto, source: Source, folder: Path, stem: str) -> tuple[StoredFile, StoredFile]:
    """Write `stem.onnx` and the `stem.ort` optimized from it, then both again with what each says of itself.

    ONNX Runtime writes metadata only together with the graph it optimizes, so that is done twice.
    """
    plain, mobile = folder / f"{stem}.onnx", folder / f"{stem}.ort"
    _write(_described(model, source), plain)
    _optimized(plain, mobile)
    graph = _parsed(mobile)
    artifact = Artifact(target=Ort.name, precision=source.precision, file=stored_file(mobile))
    require_int8(artifact, count(graph), source.float_tensors)
    stored = quantization(graph), parameters(graph)
    for_mobile = carried(source, lambda: open_session(mobile), *stored)
    for_plain = carried(source, lambda: open_session(plain), *stored)
    # The `.ort` takes its metadata from the `.onnx` it is made of, which gets its own afterwards.
    _write(_described(model, source, for_mobile), plain)
    _optimized(plain, mobile)
    return _write(_described(model, source, for_plain), plain), stored_file(mobile)


def _described(model: onnx.ModelProto, source: Source, proof: Mapping[str, str] | None = None) -> onnx.ModelProto:
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, described(source) | dict(proof or {}))
    return model


def _write(model: onnx.ModelProto, path: Path) -> StoredFile:
    path.write_bytes(model.SerializeToString(deterministic=True))
    return stored_file(path)


def _optimized(onnx_path: Path, path: Path) -> StoredFile:
    """Optimize for one image at a time and save in ONNX Runtime's format (its style `Fixed`)."""
    options = _options()
    options.optimized_model_filepath = str(path)
    options.add_session_config_entry("session.save_model_format", "ORT")
    _session(_single_image(onnx_path), onnx_path.name, options)
    path.write_bytes(canonical(path.read_bytes()))
    return stored_file(path)


def _single_image(path: Path) -> bytes:
    try:
        model = onnx.load_model_from_string(_content(path))
    except Exception as error:  # protobuf's DecodeError; its package has no types
        raise ConversionError(f"{path} is damaged: {first_line(error)}; export the model again") from error
    graph = model.graph
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.HasField("dim_param"):
                dimension.dim_value = 1
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _required_operators(ort_path: Path) -> StoredFile:
    """The operators and types a reduced build of ONNX Runtime needs, for its `--include_ops_by_config`."""
    path = ort_path.with_suffix(".required_operators_and_types.config")
    ort_format.tools().create_config_from_models([ort_path], path, enable_type_reduction=True)
    path.write_text(path.read_text(encoding="utf-8").replace(str(ort_path), ort_path.name), encoding="utf-8")
    return stored_file(path)


def _parsed(path: Path) -> Graph:
    try:
        return ort_format.parse(path.read_bytes())
    except (AttributeError, IndexError, TypeError, ValueError, struct.error) as error:
        raise ConversionError(f"{path.name} is damaged: {first_line(error)}; export the model again") from error
