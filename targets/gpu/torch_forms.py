"""The forms that torch runs: eager, as a CUDA graph, and compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rexnet_export.pipeline.core.records import Preprocess
from rexnet_export.pipeline.model.folded import folded
from rexnet_export.pipeline.model.normalize import Normalize
from rexnet_export.pipeline.model.rexnet import ReXNet
from rexnet_export.targets.gpu.forms import Bound, Form, Machine, Numbers

TYPES: Mapping[Numbers, torch.dtype] = {
    "float32": torch.float32,
    "tf32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}
BEFORE_CAPTURE = 3  # runs in which cuDNN chooses its kernels and memory is set aside

type Step = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class TorchForm:
    """A network in a form, open on a device."""

    form: Form
    machine: Machine
    step: Step

    @property
    def executed_by(self) -> str:
        """torch's version and the device's name."""
        return f"torch {version('torch')} on {self.machine.name}"

    def bind(self, images: NDArray[np.uint8]) -> Bound:
        """A graph is captured, and code compiled, for exactly this batch."""
        pixels = torch.from_numpy(images).to(self.machine.device, copy=True)
        step = self.step
        if self.form.runner == "compile":
            torch.compiler.reset()  # it would give up on the ninth batch size, and run eagerly
            mode = "reduce-overhead" if self.machine.is_gpu else None
            step = torch.compile(step, fullgraph=True, dynamic=False, mode=mode)
        if self.form.runner == "graph":
            step = _captured(step, pixels)
        return _TorchBound(step, pixels)


@contextmanager
def open_torch(form: Form, network: ReXNet, preprocess: Preprocess, machine: Machine) -> Iterator[TorchForm]:
    """The network in the form, with torch's own rounding set for it while the context is open.

    Besides TF32 itself, cuDNN chooses its fastest kernels by trying them.
    """
    ready = deepcopy(network).eval() if form.as_trained else folded(network)
    kind = torch.float32 if form.mixed else TYPES[form.numbers]
    memory = torch.contiguous_format if form.as_trained else torch.channels_last
    ready = ready.to(machine.device, kind).to(memory_format=memory)
    normalize = Normalize(preprocess, machine.device)

    def step(pixels: Tensor) -> Tensor:
        x = normalize(pixels).to(kind, memory_format=memory)
        with torch.autocast(machine.device.type, torch.float16, enabled=form.mixed):
            logits: Tensor = ready(x)
        return logits.float()

    try:
        with rounding(tf32=form.numbers == "tf32"):
            yield TorchForm(form=form, machine=machine, step=step)
    finally:  # what torch keeps for itself is missing to the next form, and to other runtimes
        if form.runner == "compile":
            torch.compiler.reset()
        if machine.is_gpu:
            torch.cuda.empty_cache()


@contextmanager
def rounding(*, tf32: bool) -> Iterator[None]:
    """cuDNN and cuBLAS round float32 factors to TF32, or do not; cuDNN tries its kernels and takes the fastest."""
    products = torch.backends.cuda.matmul
    before = products.allow_tf32
    products.allow_tf32 = tf32
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=tf32):
            yield
    finally:
        products.allow_tf32 = before


@torch.inference_mode()
def _captured(step: Step, pixels: Tensor) -> Step:
    """Replays of the step on this very tensor; what it gives is overwritten by the next."""
    aside = torch.cuda.Stream(pixels.device)  # type: ignore[no-untyped-call]
    aside.wait_stream(torch.cuda.current_stream(pixels.device))
    with torch.cuda.stream(aside):
        for _ in range(BEFORE_CAPTURE):
            step(pixels)
    torch.cuda.current_stream(pixels.device).wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        logits = step(pixels)

    def replay(_: Tensor) -> Tensor:
        graph.replay()
        return logits

    return replay


class _TorchBound:
    def __init__(self, step: Step, pixels: Tensor) -> None:
        self._step, self._pixels = step, pixels
        self._logits: Tensor | None = None

    def load(self, images: NDArray[np.uint8]) -> None:
        self._pixels.copy_(torch.from_numpy(images))

    @torch.inference_mode()
    def run(self) -> None:
        self._logits = self._step(self._pixels)

    def wait(self) -> None:
        if self._pixels.device.type == "cuda":
            torch.cuda.synchronize(self._pixels.device)

    def logits(self) -> NDArray[np.float32]:
        assert self._logits is not None
        found: NDArray[np.float32] = self._logits.cpu().numpy().copy()
        return found
