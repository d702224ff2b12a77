"""What the package can do without: optional parts, and how one that is missing is installed."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

from rexnet_export.pipeline.core.errors import TargetUnavailable
from rexnet_export.pipeline.core.installing import extra_command


@dataclass(frozen=True, kw_only=True)
class Extra:
    """An extra of the package: the modules that it brings, and what they are for."""

    name: str
    modules: tuple[str, ...]
    purpose: str

    @property
    def command(self) -> str:
        """What installs it here."""
        return extra_command(self.name)

    @property
    def missing(self) -> tuple[str, ...]:
        """Its modules that are not installed here."""
        return tuple(module for module in self.modules if find_spec(module) is None)


# A module that several bring is asked for by the first of them.
EXTRAS = (
    Extra(name="tflite", modules=("ai_edge_litert",), purpose="opening and executing .tflite files"),
    Extra(name="coreml", modules=("coremltools",), purpose="reading .mlpackage files"),
    Extra(name="convert", modules=("onnx2tf",), purpose="further .tflite files from a finished export, without torch"),
    Extra(
        name="export", modules=("torch", "onnx2tf", "kmeans1d"), purpose="exports, and executing .mlpackage files here"
    ),
    Extra(name="openvino", modules=("openvino",), purpose="exporting and executing .openvino models"),
    Extra(name="train", modules=("torch",), purpose="training, studies, and reading checkpoints"),
    Extra(name="hub", modules=("huggingface_hub",), purpose="checkpoints from the Hugging Face Hub"),
    Extra(
        name="data", modules=("pyarrow", "pillow_heif"), purpose="images in parquet and Arrow tables, and HEIC photos"
    ),
    Extra(name="sign", modules=("securesystemslib",), purpose="signed provenance: --sign and --trusted"),
    Extra(name="gpu", modules=("pynvml",), purpose="clocks and power of NVIDIA's cards: rexnet-bench gpu"),
    Extra(name="ray", modules=("ray",), purpose="searches and sweeps on a cluster"),
)


def require_module(module: str, what: str) -> None:
    """`TargetUnavailable`, with the command that mends it, where `what` needs a module that is not installed."""
    if find_spec(module) is None:
        raise TargetUnavailable(f"{what} needs {module}; run: {_bringing(module).command}")


def unavailable(error: ModuleNotFoundError) -> TargetUnavailable | None:
    """The same of an import that failed: None where what is missing is no part of an extra."""
    module = (error.name or "").partition(".")[0]
    if not any(module in extra.modules for extra in EXTRAS):
        return None
    return TargetUnavailable(f"{module} is not installed, and this needs it; run: {_bringing(module).command}")


def _bringing(module: str) -> Extra:
    return next(extra for extra in EXTRAS if module in extra.modules)
