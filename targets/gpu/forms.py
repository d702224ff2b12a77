"""The forms of the desktop network (number format, memory layout, runner), and where each can be had."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

type Numbers = Literal["float32", "tf32", "fp16", "bf16", "int8"]
type Runner = Literal["eager", "graph", "compile", "onnxruntime", "tensorrt"]

TENSORRT, CUDA = "TensorrtExecutionProvider", "CUDAExecutionProvider"
TENSOR_CORES = (8, 0)  # the first compute capability with TF32 and bfloat16 products


@dataclass(frozen=True, kw_only=True)
class Form:
    """One way to run the network; `says` describes it to a person.

    `as_trained` is NCHW with BatchNorm as it is; every other form is channels_last with BatchNorm folded. `mixed` is
    float32 weights under autocast.
    """

    name: str
    numbers: Numbers
    runner: Runner
    says: str
    as_trained: bool = False
    mixed: bool = False


def _forms(*forms: Form) -> Mapping[str, Form]:
    return {form.name: form for form in forms}


FORMS = _forms(
    Form(name="float32", numbers="float32", runner="eager", says="as trained: NCHW, eager", as_trained=True),
    Form(name="channels-last", numbers="float32", runner="eager", says="channels_last, BatchNorm folded"),
    Form(name="tf32", numbers="tf32", runner="eager", says="the same, products in TF32"),
    Form(name="amp", numbers="fp16", runner="eager", says="float32 weights under autocast to float16", mixed=True),
    Form(name="fp16", numbers="fp16", runner="eager", says="weights and activations in float16"),
    Form(name="bf16", numbers="bf16", runner="eager", says="weights and activations in bfloat16"),
    Form(name="fp16-graph", numbers="fp16", runner="graph", says="float16, one CUDA graph a batch"),
    Form(name="float32-compile", numbers="float32", runner="compile", says="torch.compile"),
    Form(name="fp16-compile", numbers="fp16", runner="compile", says="torch.compile in float16"),
    Form(name="bf16-compile", numbers="bf16", runner="compile", says="torch.compile in bfloat16"),
    Form(name="ort-float32", numbers="float32", runner="onnxruntime", says="the float graph in ONNX Runtime"),
    Form(name="ort-int8", numbers="int8", runner="onnxruntime", says="TensorRT's INT8 graph in ONNX Runtime"),
    Form(name="tensorrt-fp16", numbers="fp16", runner="tensorrt", says="the float graph in TensorRT, float16"),
    Form(name="tensorrt-int8", numbers="int8", runner="tensorrt", says="the table, symmetric, in TensorRT"),
)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What decides which forms there are: the device, and ONNX Runtime's providers."""

    device: torch.device
    name: str
    capability: tuple[int, int] | None
    providers: Sequence[str]

    @property
    def is_gpu(self) -> bool:
        """Whether this is a CUDA device."""
        return self.device.type == "cuda"


def this_machine() -> Machine:
    """The first CUDA device that torch sees, else the CPU."""
    import onnxruntime  # noqa: PLC0415 - a toolchain

    providers = tuple(onnxruntime.get_available_providers())
    if not torch.cuda.is_available():
        return Machine(device=torch.device("cpu"), name="CPU", capability=None, providers=providers)
    device = torch.device("cuda", torch.cuda.current_device())
    return Machine(
        device=device,
        name=torch.cuda.get_device_name(device),
        capability=torch.cuda.get_device_capability(device),
        providers=providers,
    )


def why_not(form: Form, machine: Machine) -> str | None:
    """Why a form cannot be had on a machine, with the cure where there is one; None where it can."""
    if not machine.is_gpu:
        return None if _on_cpu(form) else "needs a CUDA device; torch sees none here"
    if form.numbers in {"tf32", "bf16"} and (machine.capability or (0, 0)) < TENSOR_CORES:
        major, minor = machine.capability or (0, 0)
        return f"needs compute capability 8.0; {machine.name} has {major}.{minor}"
    if form.name == "ort-int8":
        return "ONNX Runtime's CUDA provider computes such a graph in float; tensorrt-int8 runs it in INT8"
    needed = {"onnxruntime": CUDA, "tensorrt": TENSORRT}.get(form.runner)
    if needed and needed not in machine.providers:
        also = " and the package tensorrt" if needed == TENSORRT else ""
        return f"this ONNX Runtime has no {needed}: install onnxruntime-gpu in place of onnxruntime{also}"
    return None


def _on_cpu(form: Form) -> bool:
    return form.runner in {"eager", "compile", "onnxruntime"} and form.numbers not in {"tf32", "fp16"}


class Bound(Protocol):
    """A form with memory for one batch size on its device."""

    def load(self, images: NDArray[np.uint8]) -> None:
        """Copy a full batch, uint8 [n, H, W, C], to the device."""

    def run(self) -> None:
        """Begin computing the logits of what is loaded."""

    def wait(self) -> None:
        """Return when they are computed."""

    def logits(self) -> NDArray[np.float32]:
        """The logits [n, classes] of the last run."""


class Opened(Protocol):
    """A form of one network, ready for batches."""

    @property
    def executed_by(self) -> str:
        """The runtime and the device."""

    def bind(self, images: NDArray[np.uint8]) -> Bound:
        """Memory, and where the form has them a graph or an engine, for batches of so many images; these are loaded."""
