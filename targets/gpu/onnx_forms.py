"""The forms that ONNX Runtime runs: its own kernels on the device, and TensorRT's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.outputs import LOGITS
from rexnet_export.pipeline.machine.onnx_session import CPU, Provider, exact_options, open_session
from rexnet_export.targets.gpu.forms import CUDA, TENSORRT, Bound, Form, Machine

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

BATCH = "batch"  # the free dimension of our graphs


@dataclass(frozen=True, kw_only=True)
class OnnxForm:
    """A graph for a provider: a session is opened for each batch size, as TensorRT builds an engine for a shape."""

    model: bytes
    providers: tuple[Provider, ...]
    machine: Machine

    @property
    def executed_by(self) -> str:
        """ONNX Runtime's version, the provider and the device."""
        import onnxruntime  # noqa: PLC0415 - a toolchain

        name = _name(self.providers[0]).removesuffix("ExecutionProvider")
        where = "" if name == self.machine.name else f" on {self.machine.name}"
        return f"ONNX Runtime {onnxruntime.__version__} ({name}){where}"

    def bind(self, images: NDArray[np.uint8]) -> Bound:
        """`ConversionError` where the provider does not take the graph: ONNX Runtime would fall back in silence."""
        options = exact_options(threads=0)
        options.add_free_dimension_override_by_name(BATCH, len(images))
        session = open_session(self.model, "the graph", options, providers=self.providers)
        wanted, found = _name(self.providers[0]), session.get_providers()
        if found[0] != wanted:
            raise ConversionError(f"ONNX Runtime could not load {wanted} and would run on {found[0]}")
        return _OnnxBound(session, images, self.machine.device.type)


@contextmanager
def open_onnx(form: Form, model: onnx.ModelProto, machine: Machine) -> Iterator[OnnxForm]:
    """A graph of ours, uint8 `image` to `logits`, for the form's provider."""
    yield OnnxForm(model=model.SerializeToString(), providers=providers(form, machine), machine=machine)


def providers(form: Form, machine: Machine) -> tuple[Provider, ...]:
    """The provider and, for nodes that TensorRT leaves, CUDA's; float32 is not rounded to TF32."""
    if not machine.is_gpu:
        return (CPU,)
    cuda: Provider = (CUDA, {"use_tf32": "0"})
    if form.runner != "tensorrt":
        return (cuda,)
    options = {"trt_fp16_enable": "1"} | ({"trt_int8_enable": "1"} if form.numbers == "int8" else {})
    return (TENSORRT, options), cuda


def _name(provider: Provider) -> str:
    return provider if isinstance(provider, str) else provider[0]


class _OnnxBound:
    def __init__(self, session: InferenceSession, images: NDArray[np.uint8], device: str) -> None:
        import onnxruntime  # noqa: PLC0415 - a toolchain

        self._session = session
        self._image: Any = onnxruntime.OrtValue.ortvalue_from_numpy(images, device, 0)
        self._binding: Any = session.io_binding()
        self._binding.bind_ortvalue_input("image", self._image)
        self._binding.bind_output(LOGITS, device, 0)

    def load(self, images: NDArray[np.uint8]) -> None:
        self._image.update_inplace(np.ascontiguousarray(images))

    def run(self) -> None:
        self._session.run_with_iobinding(self._binding)

    def wait(self) -> None:
        self._binding.synchronize_outputs()

    def logits(self) -> NDArray[np.float32]:
        (found,) = self._binding.copy_outputs_to_cpu()
        return np.array(found, np.float32)
