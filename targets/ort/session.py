"""`.ort` and `.onnx` files opened, executed, traced and optimized by ONNX Runtime."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
from numpy.typing import NDArray

from rexnet_export.pipeline.artifact.metadata import PROCESSOR
from rexnet_export.pipeline.core.errors import ConversionError, first_line
from rexnet_export.pipeline.core.images import require_images
from rexnet_export.pipeline.core.outputs import answer, are_outputs, network_outputs
from rexnet_export.pipeline.core.records import StoredFile, stored_file
from rexnet_export.pipeline.core.untrusted import MOST_ARTIFACT, read_untrusted
from rexnet_export.pipeline.machine import onnx_session
from rexnet_export.pipeline.machine.onnx_session import CPU
from rexnet_export.targets.ort.as_uint8 import unsigned, unsigned_activations
from rexnet_export.targets.ort.canonical import canonical
from rexnet_export.targets.ort.format import ALIGNMENT, IDENTIFIER, is_for_arm
from rexnet_export.targets.ort.saturation import VNNI, saturates
from rexnet_export.targets.ort.trace import OrtTracer, open_tracer, rebuilt

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, SessionOptions

WORKERS = 2  # images run side by side; each on one thread, as on a phone's CPU provider with one core
MANY = 16  # images for which it pays to make another form of the file
WIDENED = ", weights as UINT8 for want of VNNI"  # behind the comma stands what changes no answer


@dataclass(frozen=True, kw_only=True)
class OrtSession:
    """A model in ONNX Runtime, `batch` images at once; results keep the order of the images.

    `widened` where the processor would lose sums of its integers: INT8 weights are then computed as UINT8, which gives
    what the file means, and not its speed. `moved` where it has kernels for UINT8 activations alone and the file has
    INT8: see `outputs`.
    """

    session: InferenceSession
    executed_by: str
    widened: bool = False
    moved: bool = False
    path: Path
    provider: str
    names: tuple[str, ...]
    shape: tuple[int, int, int]
    batch: int

    @property
    def timed(self) -> bool:
        """Whether what runs here is what would run without us."""
        return not self.widened

    @property
    def emulated(self) -> bool:
        """Whether other kernels than those it is for run it: the INT8 `.ort` for ARM elsewhere, and weights widened
        for want of VNNI; on a processor the file for NPUs, the one `.onnx` that takes one image alone.
        """
        if self.path.suffix != ".ort":
            return self.widened or (self.provider == CPU and self.session.get_inputs()[0].shape[0] == 1)
        return self.moved

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 [N, S, S, 3] RGB -> float32 logits [N, classes]."""
        return answer(self.outputs(images))

    def outputs(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """uint8 [N, S, S, 3] RGB -> the declared outputs, float32 [N, classes] or [N, C, H, W].

        Of `MANY` images an INT8 file for ARM computes the first itself on x86; all are computed as UINT8, in a fraction
        of the time. Where the two differ in any bit of the first, the file computes all.
        """
        require_images(images, self.shape)
        if len(images) < MANY or not self.moved or self._as_uint8 is None:
            return self._answers(self.session, images)
        own, found = self._answers(self.session, images[:1]), self._answers(self._as_uint8, images)
        same = all(np.array_equal(own[name], found[name][:1]) for name in self.names)
        return found if same else self._answers(self.session, images)

    def trace(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Every tensor of the optimized graph as real numbers, [N, C, H, W] or [N, C], by ONNX name, in graph order.

        INT8 and every `.ort` give the logits of `run` bit for bit. A float `.onnx` runs in this processor's blocked
        layout, which has no tensors to compare: it is traced in the plain one, and the logits' last bits differ.
        """
        require_images(images, self.shape)
        return self._tracer.trace(images) if self.provider == CPU else network_outputs(self.outputs(images))

    @cached_property
    def _tracer(self) -> OrtTracer:
        if self.path.suffix == ".ort":
            return open_tracer(file_content(self.path), _options())
        with tempfile.TemporaryDirectory() as folder:
            content = optimized(self.path, Path(folder) / "optimized.ort").path.read_bytes()
        return open_tracer(content, _options(), widened=self.widened)

    @cached_property
    def _as_uint8(self) -> InferenceSession | None:
        """The file's graph, operator by operator, with its integers 128 higher, unless it has operators not ours."""
        import onnxruntime  # noqa: PLC0415 - a toolchain

        options = _options()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            model = unsigned_activations(rebuilt(file_content(self.path)))
            return onnx_session.open_session(model.SerializeToString(), self.path.name, options)
        except ConversionError:
            return None

    def _answers(self, session: InferenceSession, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Batch by batch, side by side."""
        parts = [images[start : start + self.batch] for start in range(0, len(images), self.batch)]
        if len(parts) == 1:
            return self._outputs(session, parts[0])
        with ThreadPoolExecutor(WORKERS) as workers:
            found = list(workers.map(partial(self._outputs, session), parts))
        return {name: np.concatenate([part[name] for part in found]) for name in self.names}

    def _outputs(self, session: InferenceSession, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        try:
            found = session.run(list(self.names), {"image": np.ascontiguousarray(images)})
        except Exception as error:
            raise ConversionError(f"{self.executed_by} stopped in the model: {first_line(error)}") from error
        return dict(zip(self.names, found, strict=True))


def open_session(path: Path, provider: str = CPU, *, threads: int = 1) -> OrtSession:
    """Open a `.ort` or `.onnx` file of ours, whole and with the contract's input and output.

    A file that wants VNNI is computed with UINT8 weights where sums of others would be lost: see `saturates`.
    """
    import onnxruntime  # noqa: PLC0415 - a toolchain

    content = file_content(path)
    session = _session(content, path.name, _options(threads), provider)
    widened = session.get_modelmeta().custom_metadata_map.get(PROCESSOR) == VNNI and saturates()
    if widened:
        wide = unsigned(_model(content, path)).SerializeToString(deterministic=True)
        session = _session(wide, path.name, _options(threads), provider)
    batch, height, width, channels = _image_shape(session, path.name)
    moved = path.suffix == ".ort" and provider == CPU and not _on_arm() and is_for_arm(content)
    where = "" if provider == CPU else f" ({provider})"
    return OrtSession(
        session=session,
        executed_by=f"ONNX Runtime {onnxruntime.__version__}{where}{WIDENED if widened else ''}",
        widened=widened,
        moved=moved,
        path=path,
        provider=provider,
        names=tuple(value.name for value in session.get_outputs()),
        shape=(int(height), int(width), int(channels)),
        batch=1 if batch == 1 else onnx_session.images_at_once(int(height), int(width)),
    )


def _on_arm() -> bool:
    return platform.machine().lower().startswith(("arm", "aarch64"))


def file_content(path: Path) -> bytes:
    """The bytes of a `.ort` or `.onnx` file, refused where they cannot be a whole one."""
    try:
        content = read_untrusted(path, MOST_ARTIFACT)
    except OSError as error:
        raise ConversionError(f"cannot read {path}: {error.strerror}; export the model again") from error
    whole = content[4:8] == IDENTIFIER and len(content) % ALIGNMENT == 0 if path.suffix == ".ort" else bool(content)
    if not whole:
        raise ConversionError(f"{path} is no whole {path.suffix} file ({len(content)} bytes); export the model again")
    return content


def optimized(onnx_path: Path, path: Path) -> StoredFile:
    """Optimize for one image at a time and save in ONNX Runtime's format (its style `Fixed`)."""
    options = _options()
    options.optimized_model_filepath = str(path)
    options.add_session_config_entry("session.save_model_format", "ORT")
    _session(_single_image(onnx_path), onnx_path.name, options)
    path.write_bytes(canonical(path.read_bytes()))
    return stored_file(path)


def fused(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """A QDQ graph in the operators on integers that ONNX Runtime makes of it, before it chooses a layout for them."""
    options = _options()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fused.onnx"
        options.optimized_model_filepath = str(path)
        without = ("NchwcTransformer", "NhwcTransformer")
        onnx_session.open_session(model.SerializeToString(), name, options, without=without)
        return onnx.load(path)


def _single_image(path: Path) -> bytes:
    model = _model(file_content(path), path)
    graph = model.graph
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.HasField("dim_param"):
                dimension.dim_value = 1
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _model(content: bytes, path: Path) -> onnx.ModelProto:
    try:
        return onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's DecodeError; its package has no types
        raise ConversionError(f"{path} is damaged: {first_line(error)}; export the model again") from error


def _session(content: bytes, name: str, options: SessionOptions, provider: str = CPU) -> InferenceSession:
    # x86 blocked layouts help only float convolutions and would tie a file to one processor.
    without = ["NchwcTransformer"] if options.optimized_model_filepath else []
    return onnx_session.open_session(content, name, options, providers=[provider], without=without)


def _options(threads: int = 1) -> SessionOptions:
    options = onnx_session.session_options(threads)
    # On x86 the optimizer would otherwise rewrite INT8 activations to UINT8 and leave convolutions in float.
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    return options


def _image_shape(session: InferenceSession, name: str) -> Sequence[int | str]:
    inputs, outputs = session.get_inputs(), session.get_outputs()
    image, ends = [(value.name, value.type) for value in inputs], {value.name: value.type for value in outputs}
    shape: Sequence[int | str] = inputs[0].shape if inputs else ()
    whole = len(shape) == 4 and all(isinstance(side, int) for side in shape[1:])
    if (
        image != [("image", "tensor(uint8)")]
        or set(ends.values()) != {"tensor(float)"}
        or not (are_outputs(ends) and whole)
    ):
        raise ConversionError(
            f"{name} does not take `image` [n, H, W, C] and give logits, probabilities or features; it was not "
            "exported here"
        )
    return shape
