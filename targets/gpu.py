"""The desktop reference: the float network in torch, on a GPU where there is one, else on the CPU."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from rexnet_export.pipeline.checkpoint import LoadedCheckpoint, load_checkpoint, save_checkpoint
from rexnet_export.pipeline.errors import CheckpointError, TargetUnavailable
from rexnet_export.pipeline.metadata import describe
from rexnet_export.pipeline.records import PRECISIONS, Artifact, Coverage, Precision, Preprocess
from rexnet_export.pipeline.reference import open_reference
from rexnet_export.pipeline.rexnet import cost
from rexnet_export.pipeline.target import Session, Source
from rexnet_export.quantization.qparams import QuantParams
from rexnet_export.targets.ort import open_session

CUDA_PROVIDER = "CUDAExecutionProvider"


class Gpu:
    """Our own checkpoint format; float32, or float16 weights run in mixed precision.

    A request for INT8 gives the float32 file the INT8 artifacts are compared with, and the artifact says fp32.
    """

    name = "gpu"
    precisions: tuple[Precision, ...] = PRECISIONS

    def require(self) -> None:
        """torch is always there: it reads the checkpoint."""

    def convert(self, source: Source, folder: Path, stem: str) -> Artifact:  # noqa: ARG002 - the file is not INT8
        """Write `MODEL-fp32.safetensors` (or fp16) with labels, preprocessing and digests inside."""
        precision: Precision = "fp16" if source.precision == "fp16" else "fp32"
        file = save_checkpoint(
            folder / f"{source.card.name}-{precision}.safetensors",
            load_checkpoint(source.checkpoint.path).network,
            labels=source.card.labels,
            preprocess=source.card.preprocess,
            metadata=describe(source.card, precision=precision, float_onnx_sha256=source.float_onnx.sha256),
            half=precision == "fp16",
        )
        return Artifact(target=self.name, precision=precision, file=file)

    def open(self, artifact: Artifact) -> Session:
        """Load into torch; mixed precision needs a GPU and is float32 without one."""
        loaded = load_checkpoint(artifact.file.path)
        return open_reference(loaded.network, _preprocess(loaded), half=artifact.precision == "fp16")

    def coverage(self, artifact: Artifact) -> Coverage:
        """All multiply-accumulates are float, and every layer is a float operator."""
        loaded = load_checkpoint(artifact.file.path)
        layers = [(name, module) for name, module in loaded.network.named_modules() if not list(module.children())]
        return Coverage(
            int8_macs=0,
            total_macs=cost(loaded.network.spec, _preprocess(loaded).size).macs,
            float_ops=tuple(f"{name} ({type(layer).__name__})" for name, layer in layers if not _idle(layer)),
        )

    def read_qparams(self, artifact: Artifact) -> dict[str, QuantParams]:  # noqa: ARG002 - the protocol's parameter
        """A float file stores none."""
        return {}

    def read_metadata(self, artifact: Artifact) -> dict[str, str]:
        """The safetensors metadata."""
        return load_checkpoint(artifact.file.path).metadata


def open_on_cuda_provider(float_onnx: Path) -> Session:
    """The float ONNX file in ONNX Runtime's CUDA provider: a second opinion on the GPU, where it is installed."""
    import onnxruntime  # noqa: PLC0415

    if CUDA_PROVIDER not in onnxruntime.get_available_providers():
        raise TargetUnavailable(
            "this ONNX Runtime has no CUDA provider; in an environment of its own run: pip install onnxruntime-gpu"
        )
    return open_session(float_onnx, CUDA_PROVIDER)


def _preprocess(loaded: LoadedCheckpoint) -> Preprocess:
    if loaded.preprocess is None:
        raise CheckpointError(f"{loaded.file.path} does not say its preprocessing; export the model again")
    return loaded.preprocess


def _idle(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Dropout)
