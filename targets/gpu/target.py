"""The desktop reference: the float network in torch, on a GPU where there is one, else on the CPU."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file

from rexnet_export.pipeline.artifact.inspection import Inspection
from rexnet_export.pipeline.artifact.metadata import describe
from rexnet_export.pipeline.artifact.self_test import carried
from rexnet_export.pipeline.artifact.structure import Structure
from rexnet_export.pipeline.artifact.target import OutputSession, Source
from rexnet_export.pipeline.checkpoint.load import LoadedCheckpoint, load_checkpoint, save_checkpoint
from rexnet_export.pipeline.core.errors import CheckpointError, ConversionError
from rexnet_export.pipeline.core.records import Artifact, Coverage, NotMeasured, Precision, Preprocess
from rexnet_export.pipeline.machine.torch_threads import torch_threads
from rexnet_export.pipeline.model.rexnet import cost
from rexnet_export.pipeline.model.torch_session import open_reference
from rexnet_export.targets.ort.session import open_session
from rexnet_export.targets.ort.target import Ort

CUDA_PROVIDER = "CUDAExecutionProvider"


class Gpu:
    """Our own checkpoint format; float32, or float16 weights run in mixed precision.

    A request for INT8 gives the float32 file the INT8 artifacts are compared with, and the artifact says fp32. Where
    ONNX Runtime has its CUDA provider, the float ONNX file is run there too, as the preset `onnxruntime`.
    """

    name = "gpu"
    precisions: tuple[Precision, ...] = ("int8", "fp16", "fp32")
    suffixes = (".safetensors",)

    def require(self) -> None:
        """Weights are read, written and run by torch, which this module has imported."""

    def convert(self, source: Source, folder: Path, stem: str) -> Artifact:  # noqa: ARG002 - the file is not INT8
        """Write `MODEL-fp32.safetensors` (or fp16) with labels, preprocessing and digests inside."""
        if source.checkpoint is None:
            raise ConversionError(f"{self.name} is written from a checkpoint, and there is none; name it")
        precision: Precision = "fp16" if source.precision == "fp16" else "fp32"
        described = describe(source.card, precision=precision, float_onnx_sha256=source.float_onnx.sha256)
        save = partial(
            save_checkpoint,
            folder / f"{source.card.name}-{precision}.safetensors",
            load_checkpoint(source.checkpoint.path, source.reading).network,
            labels=source.card.labels,
            preprocess=source.card.preprocess,
            half=precision == "fp16",
        )
        presets = {"onnxruntime": source.float_onnx} if has_cuda_provider() else {}
        written = Artifact(target=self.name, precision=precision, file=save(metadata=described), presets=presets)
        stored = self.inspect(written)
        with torch_threads(1):  # sums of few images depend on how many share them
            proof = carried(source, lambda: self.open(written), {}, stored.parameters, stored.metadata)
        return replace(written, file=save(metadata=described | proof))

    def open(self, artifact: Artifact, *, threads: int | None = None) -> OutputSession:
        """Load into torch; mixed precision needs a GPU and is float32 without one."""
        if _is_onnx(artifact):
            return open_session(artifact.file.path, CUDA_PROVIDER)
        if threads is not None:
            torch.set_num_threads(threads)
        loaded = _load(artifact)
        return open_reference(loaded.network, _preprocess(loaded), half=artifact.precision == "fp16")

    def inspect(self, artifact: Artifact) -> Inspection:
        """The checkpoint, by its own names: here BatchNorm is not folded into the convolutions.

        All multiply-accumulates are float, and every layer is a float operator. The preset is ONNX Runtime's to read.
        """
        if _is_onnx(artifact):
            return Ort().inspect(artifact)
        loaded = cache(lambda: _load(artifact))
        return Inspection(
            metadata=lambda: loaded().metadata,
            coverage=lambda: _coverage(loaded()),
            structure=lambda: _structure(loaded()),
            qparams=dict,
            parameters=lambda: _stored(loaded()),
        )


def _coverage(loaded: LoadedCheckpoint) -> Coverage:
    modules = loaded.network.named_modules()
    layers = [(name, type(layer).__name__) for name, layer in modules if not list(layer.children())]
    return Coverage(
        int8_macs=0,
        total_macs=cost(loaded.network.spec, _preprocess(loaded).size).macs,
        float_ops=tuple(f"{name} ({kind})" for name, kind in layers if kind != "Dropout"),
    )


def _structure(loaded: LoadedCheckpoint) -> Structure:
    layers = [layer for layer in loaded.network.modules() if not list(layer.children())]
    return Structure(
        tensor_bytes=sum(values.nbytes for values in _stored(loaded).values()),
        operators=dict(Counter(type(layer).__name__ for layer in layers)),
        float_islands=1,
        qdq_pairs=0,
        arena_bytes=NotMeasured(reason="torch allocates memory as it runs"),
    )


def _stored(loaded: LoadedCheckpoint) -> dict[str, NDArray[np.generic]]:
    stored: dict[str, NDArray[np.generic]] = load_file(loaded.file.path)
    return stored


def has_cuda_provider() -> bool:
    """Whether this ONNX Runtime is the build for NVIDIA GPUs (package onnxruntime-gpu)."""
    import onnxruntime  # noqa: PLC0415

    return CUDA_PROVIDER in onnxruntime.get_available_providers()


def _is_onnx(artifact: Artifact) -> bool:
    return artifact.file.path.suffix == ".onnx"


def _load(artifact: Artifact) -> LoadedCheckpoint:
    return load_checkpoint(artifact.file.path)


def _preprocess(loaded: LoadedCheckpoint) -> Preprocess:
    if loaded.preprocess is None:
        raise CheckpointError(f"{loaded.file.path} does not say its preprocessing; export the model again")
    return loaded.preprocess
