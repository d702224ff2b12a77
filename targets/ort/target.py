"""ONNX Runtime: `.ort` files for ARM and x86 with the `.onnx` they come from, and `.onnx` for VNNI and for NPUs."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import onnx

from rexnet_export.pipeline.artifact.inspection import Inspection
from rexnet_export.pipeline.artifact.metadata import PROCESSOR
from rexnet_export.pipeline.artifact.self_test import carried
from rexnet_export.pipeline.artifact.target import OutputSession, Source, described, require_int8
from rexnet_export.pipeline.core.errors import ConversionError, TargetUnavailable, first_line
from rexnet_export.pipeline.core.installing import install_command
from rexnet_export.pipeline.core.outputs import LOGITS, PROBABILITIES
from rexnet_export.pipeline.core.records import Artifact, Precision, StoredFile, stored_file
from rexnet_export.quantization.scheme.insert_qdq import insert_qdq
from rexnet_export.targets.ort import format as ort_format
from rexnet_export.targets.ort import saturation
from rexnet_export.targets.ort.coverage import count
from rexnet_export.targets.ort.format import Graph, parameters, quantization
from rexnet_export.targets.ort.front import eight_at_once
from rexnet_export.targets.ort.integers import in_integers
from rexnet_export.targets.ort.npu import npu_graph
from rexnet_export.targets.ort.padding import padded, stating
from rexnet_export.targets.ort.schema import tools
from rexnet_export.targets.ort.session import file_content, open_session, optimized
from rexnet_export.targets.ort.structure import structure
from rexnet_export.targets.ort.tail import flat_where_it_lies

X86, VNNI, NPU = "x86", "vnni", "npu"
FOR_VNNI = "For x86 with VNNI; others lose sums in silence unless session.x64quantprecision is 1."


class Ort:
    """INT8 or float32 in `.ort`; float16 is not offered, as the mobile CPU kernels would widen it to float32."""

    name = "ort"
    precisions: tuple[Precision, ...] = ("int8", "fp32")
    suffixes = (".ort", ".onnx")

    def require(self) -> None:
        """`.ort` files are written and run by ONNX Runtime."""
        if find_spec("onnxruntime") is None:
            raise TargetUnavailable(f"ONNX Runtime is not installed; run: {install_command('onnxruntime==1.26.0')}")

    def convert(self, source: Source, folder: Path, stem: str) -> Artifact:
        """Write `stem.ort` for ARM and the `x86` preset, the `.onnx` of each, and the ARM file's operator list.

        ARM takes INT8 activations; x86 has faster kernels for the same table in UINT8. The `vnni` preset has UINT8
        activations and INT8 weights, the fastest form where the processor adds such products up exactly; as a `.onnx`,
        it can be made exact elsewhere. The `npu` preset is the graph that execution providers of NPUs take whole; there
        is none where the table leaves layers in float. In float32 the preset is the `.onnx`, which ONNX Runtime
        optimizes for the processor it meets.
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
        unsigned = _for_x86(insert_qdq(onnx.load(source.float_onnx.path), source.table, "uint8"))
        mixed = insert_qdq(onnx.load(source.float_onnx.path), source.table, "uint8", weights="int8")
        plain, mobile = _pair(onnx.load(source.qdq_onnx.path), source, folder, stem)
        plain_x86, x86 = _pair(unsigned, source, folder, f"{stem}-{X86}")
        presets = {X86: x86, VNNI: _for_vnni(mixed, source, folder / f"{stem}-{VNNI}.onnx")}
        if not source.float_tensors:
            for_npus = npu_graph(onnx.load(source.float_onnx.path), source.table)
            presets[NPU] = _alone(for_npus, source, folder / f"{stem}-{NPU}.onnx", described(source))
        return Artifact(
            target=self.name,
            precision="int8",
            file=mobile,
            presets=presets,
            companions=(plain, plain_x86, _required_operators(mobile.path)),
        )

    def open(self, artifact: Artifact, *, threads: int | None = None) -> OutputSession:
        """Load a `.ort` or `.onnx` file into ONNX Runtime's CPU provider."""
        self.require()
        return open_session(artifact.file.path, threads=threads or 1)

    def preload(self) -> None:
        """For `targets.isolation`: what running a file imports."""
        import onnxruntime  # noqa: F401, PLC0415

    def inspect(self, artifact: Artifact) -> Inspection:
        """The optimized graph and the file's `metadata_props`; a `.onnx` is optimized first, as it is at run time."""
        self.require()
        path = artifact.file.path
        session = cache(lambda: open_session(path))  # ONNX Runtime verifies a file; the Python reader does not
        graph = cache(lambda: _optimized_graph(session().path))

        def read[T](reader: Callable[[Graph], T]) -> T:
            try:
                return reader(graph())
            except (KeyError, IndexError, ValueError) as error:
                raise ConversionError(
                    f"{path.name} computes what our files store ({error}); it was not exported here"
                ) from error

        return Inspection(
            metadata=lambda: dict(session().session.get_modelmeta().custom_metadata_map),
            declared=lambda: [output.name for output in session().session.get_outputs()],
            coverage=lambda: read(count),
            structure=lambda: read(structure),
            qparams=lambda: read(quantization),
            parameters=lambda: read(parameters),
        )


def _pair(model: onnx.ModelProto, source: Source, folder: Path, stem: str) -> tuple[StoredFile, StoredFile]:
    """Write `stem.onnx` and the `stem.ort` optimized from it, then both again with what each says of itself.

    ONNX Runtime writes metadata only together with the graph it optimizes, so that is done twice.
    """
    plain, mobile = folder / f"{stem}.onnx", folder / f"{stem}.ort"
    model = _with_scores(model, source.outputs)
    _write(_described(model, source), plain)
    optimized(plain, mobile)
    graph = _parsed(mobile)
    artifact = Artifact(target=Ort.name, precision=source.precision, file=stored_file(mobile))
    require_int8(artifact, count(graph), source.float_tensors)
    stored = quantization(graph), parameters(graph)
    for_mobile = carried(source, lambda: open_session(mobile), *stored)
    for_plain = carried(source, lambda: open_session(plain), *stored)
    # The `.ort` takes its metadata from the `.onnx` it is made of, which gets its own afterwards.
    _write(_described(model, source, for_mobile), plain)
    optimized(plain, mobile)
    return _write(_described(model, source, for_plain), plain), stored_file(mobile)


def _for_x86(model: onnx.ModelProto) -> onnx.ModelProto:
    """With both ends in the forms that are fastest there."""
    return flat_where_it_lies(eight_at_once(model))


def _for_vnni(model: onnx.ModelProto, source: Source, path: Path) -> StoredFile:
    """A `.onnx` that says what its processor has to have; of a `.ort`, nobody could ask for exact sums.

    Where all of it is integers, its channels are padded to what the kernels want, and it is written as what is run.
    """
    stated = described(source)
    if not source.float_tensors:
        model, channels = padded(model)
        stated |= stating(channels)
    model = _with_scores(_for_x86(model), source.outputs)
    if not source.float_tensors:
        model = in_integers(model, path.name)
    stated |= {PROCESSOR: saturation.VNNI, "description": f"{stated['description']} {FOR_VNNI}"}
    return _alone(model, source, path, stated)


def _alone(model: onnx.ModelProto, source: Source, path: Path, stated: Mapping[str, str]) -> StoredFile:
    """Write a `.onnx` of which there is no `.ort`, then again with what it says of itself beside what is `stated`."""
    artifact = Artifact(target=Ort.name, precision=source.precision, file=_write(_stating(model, stated), path))
    graph = _optimized_graph(path)
    require_int8(artifact, count(graph), source.float_tensors)
    proof = carried(source, lambda: open_session(path), quantization(graph), parameters(graph), stated)
    return _write(_stating(model, {**stated, **proof}), path)


def _with_scores(model: onnx.ModelProto, outputs: Sequence[str]) -> onnx.ModelProto:
    """The graph with exactly these outputs: the softmax of its logits beside them, or in their place."""
    if PROBABILITIES not in outputs:
        return model
    ends = {value.name: value for value in model.graph.output}
    ends[PROBABILITIES] = onnx.ValueInfoProto()
    ends[PROBABILITIES].CopyFrom(ends[LOGITS])
    ends[PROBABILITIES].name = PROBABILITIES
    model.graph.node.append(onnx.helper.make_node("Softmax", [LOGITS], [PROBABILITIES], PROBABILITIES, axis=1))
    declared = [ends[name] for name in outputs]
    del model.graph.output[:]
    model.graph.output.extend(declared)
    return model


def _described(model: onnx.ModelProto, source: Source, proof: Mapping[str, str] | None = None) -> onnx.ModelProto:
    return _stating(model, described(source) | dict(proof or {}))


def _stating(model: onnx.ModelProto, stated: Mapping[str, str]) -> onnx.ModelProto:
    del model.metadata_props[:]
    model.doc_string = stated["description"]
    model.producer_name, _, model.producer_version = stated["generator"].partition(" ")
    onnx.helper.set_model_props(model, dict(stated))
    return model


def _write(model: onnx.ModelProto, path: Path) -> StoredFile:
    path.write_bytes(model.SerializeToString(deterministic=True))
    return stored_file(path)


def _required_operators(ort_path: Path) -> StoredFile:
    """The operators and types a reduced build of ONNX Runtime needs, for its `--include_ops_by_config`."""
    path = ort_path.with_suffix(".required_operators_and_types.config")
    tools().create_config_from_models([ort_path], path, enable_type_reduction=True)
    path.write_text(path.read_text(encoding="utf-8").replace(str(ort_path), ort_path.name), encoding="utf-8")
    return stored_file(path)


def _optimized_graph(path: Path) -> Graph:
    if path.suffix == ".ort":
        return _parsed(path)
    with tempfile.TemporaryDirectory() as folder:
        return _parsed(optimized(path, Path(folder) / "optimized.ort").path)


def _parsed(path: Path) -> Graph:
    try:
        return ort_format.parse(file_content(path))
    except (AttributeError, IndexError, TypeError, ValueError, struct.error) as error:
        raise ConversionError(f"{path.name} is damaged: {first_line(error)}; export the model again") from error
